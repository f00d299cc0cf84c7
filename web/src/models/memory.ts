// Files in memory, where nothing else keeps them: browsers without OPFS, and bytes that the caller gave.

import { checkRange, type Folder, type Source, type Writable } from "./folder.js";

/** Bytes of one piece: far below what one buffer may have, so that a large file does not need one. */
const PIECE = 16 * 1024 * 1024;

/** A folder that is gone with the worker. */
export class MemoryFolder implements Folder {
  readonly #files = new Map<string, MemoryFile>();

  async list(): Promise<string[]> {
    return [...this.#files.keys()];
  }

  async source(name: string): Promise<Source | undefined> {
    return this.#files.get(name);
  }

  async open(name: string): Promise<Writable> {
    const file = this.#files.get(name) ?? new MemoryFile();
    this.#files.set(name, file);
    return file;
  }

  async remove(name: string): Promise<void> {
    this.#files.delete(name);
  }
}

class MemoryFile implements Source, Writable {
  readonly #pieces: Uint8Array[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  write(bytes: Uint8Array, at: number): void {
    checkRange(0, at, this.#size);
    for (let done = 0; done < bytes.length;) {
      const place = at + done;
      const index = Math.floor(place / PIECE);
      const piece = (this.#pieces[index] ??= new Uint8Array(PIECE));
      const part = bytes.subarray(done, done + PIECE - (place % PIECE));
      piece.set(part, place % PIECE);
      done += part.length;
    }
    this.#size = Math.max(this.#size, at + bytes.length);
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(offset, length, this.#size);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const place = offset + done;
      const piece = this.#pieces[Math.floor(place / PIECE)] ?? new Uint8Array(PIECE);
      const part = piece.subarray(place % PIECE, Math.min(PIECE, (place % PIECE) + length - done));
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  truncate(size: number): void {
    checkRange(0, size, this.#size);
    this.#size = size;
    this.#pieces.length = Math.ceil(size / PIECE);
  }

  flush(): void {}

  close(): void {}
}

/** Bytes of the caller as a source. */
export function bytesSource(bytes: Uint8Array): Source {
  return {
    size: bytes.length,
    read(offset, length) {
      checkRange(offset, length, bytes.length);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** A file of the user, or of OPFS, as a source: read from disk piece by piece. */
export function blobSource(blob: Blob): Source {
  return {
    size: blob.size,
    async read(offset, length) {
      checkRange(offset, length, blob.size);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
}
