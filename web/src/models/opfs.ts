// The origin private file system as a folder. Writing needs a dedicated worker; listing, reading and removing do not.

import { checkRange, type Folder, type Source, type Writable } from "./folder.js";
import { blobSource } from "./memory.js";

/** Of the API's types those parts that are used; TypeScript has the synchronous ones for workers only. */
export interface OpfsDirectory {
  getDirectoryHandle(name: string, options?: { create?: boolean }): Promise<OpfsDirectory>;
  getFileHandle(name: string, options?: { create?: boolean }): Promise<OpfsFile>;
  removeEntry(name: string): Promise<void>;
  keys(): AsyncIterableIterator<string>;
}

export interface OpfsFile {
  getFile(): Promise<Blob>;
  createSyncAccessHandle?(): Promise<SyncAccessHandle>;
}

export interface SyncAccessHandle {
  read(buffer: Uint8Array, options: { at: number }): number;
  write(buffer: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** Where model files lie in the origin's file system. */
const PATH = ["reprise", "models"];

/** The folder of model files; `undefined` where there is no OPFS (old browsers, some private windows, insecure pages). */
export async function opfsFolder(storage: StorageManager | undefined): Promise<OpfsFolder | undefined> {
  if (typeof storage?.getDirectory !== "function") return undefined;
  try {
    let directory = (await storage.getDirectory()) as unknown as OpfsDirectory;
    for (const name of PATH) directory = await directory.getDirectoryHandle(name, { create: true });
    return new OpfsFolder(directory);
  } catch {
    return undefined;
  }
}

/** A directory of OPFS. */
export class OpfsFolder implements Folder {
  readonly #directory: OpfsDirectory;

  constructor(directory: OpfsDirectory) {
    this.#directory = directory;
  }

  async list(): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.#directory.keys()) names.push(name);
    return names;
  }

  /** A snapshot: it needs no lock, so several tabs can load one model. */
  async source(name: string): Promise<Source | undefined> {
    const handle = await absent(this.#directory.getFileHandle(name));
    return handle && blobSource(await handle.getFile());
  }

  async open(name: string): Promise<Writable> {
    const handle = await this.#directory.getFileHandle(name, { create: true });
    if (!handle.createSyncAccessHandle) throw new Error("files can be written in a worker only");
    return new OpfsWritable(await handle.createSyncAccessHandle());
  }

  async remove(name: string): Promise<void> {
    await absent(this.#directory.removeEntry(name));
  }
}

class OpfsWritable implements Writable {
  readonly #handle: SyncAccessHandle;

  constructor(handle: SyncAccessHandle) {
    this.#handle = handle;
  }

  get size(): number {
    return this.#handle.getSize();
  }

  write(bytes: Uint8Array, at: number): void {
    // A full disk may show as a short write instead of an error.
    for (let done = 0; done < bytes.length;) {
      const written = this.#handle.write(bytes.subarray(done), { at: at + done });
      if (written === 0) throw new DOMException("no more bytes were taken", "QuotaExceededError");
      done += written;
    }
    // Chromium can claim to have written what the quota did not let through.
    if (this.#handle.getSize() < at + bytes.length)
      throw new DOMException("the file does not grow", "QuotaExceededError");
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(offset, length, this.size);
    const bytes = new Uint8Array(length);
    const read = this.#handle.read(bytes, { at: offset });
    if (read !== length) throw new RangeError(`${read} of ${length} bytes were read`);
    return bytes;
  }

  truncate(size: number): void {
    this.#handle.truncate(size);
  }

  flush(): void {
    this.#handle.flush();
  }

  close(): void {
    this.#handle.close();
  }
}

/** `undefined` for what is not there. */
async function absent<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === "NotFoundError") return undefined;
    throw thrown;
  }
}
