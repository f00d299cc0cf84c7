// The origin private file system in memory, with its locks and its quota.

import type { OpfsDirectory, OpfsFile, SyncAccessHandle } from "reprise/dist/models/opfs.js";

/** A directory; `quota` is what all its files may hold, bytes. */
export class FakeDirectory implements OpfsDirectory {
  readonly files = new Map<string, FakeFile>();
  readonly #directories = new Map<string, FakeDirectory>();
  quota = Infinity;
  /** When it lies about a full disk: writes seem to succeed, at once or until the file is closed. */
  lies: "at once" | "until closed" | undefined;

  async getDirectoryHandle(name: string, { create = false } = {}): Promise<OpfsDirectory> {
    const found = this.#directories.get(name) ?? (create ? new FakeDirectory() : undefined);
    if (!found) throw new DOMException(name, "NotFoundError");
    this.#directories.set(name, found);
    return found;
  }

  async getFileHandle(name: string, { create = false } = {}): Promise<OpfsFile> {
    const found = this.files.get(name) ?? (create ? new FakeFile(this) : undefined);
    if (!found) throw new DOMException(name, "NotFoundError");
    this.files.set(name, found);
    return found;
  }

  async removeEntry(name: string): Promise<void> {
    const file = this.files.get(name);
    if (!file) throw new DOMException(name, "NotFoundError");
    if (file.locked) throw new DOMException(name, "NoModificationAllowedError");
    this.files.delete(name);
  }

  async *keys(): AsyncIterableIterator<string> {
    yield* [...this.files.keys()];
  }

  get used(): number {
    return [...this.files.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
  }
}

export class FakeFile implements OpfsFile {
  bytes = new Uint8Array();
  locked = false;
  readonly #directory: FakeDirectory;

  constructor(directory: FakeDirectory) {
    this.#directory = directory;
  }

  async getFile(): Promise<Blob> {
    return new Blob([this.bytes.slice()]);
  }

  async createSyncAccessHandle(): Promise<SyncAccessHandle> {
    if (this.locked) throw new DOMException("in use", "NoModificationAllowedError");
    this.locked = true;
    return {
      getSize: () => this.bytes.length,
      read: (buffer, { at }) => {
        const part = this.bytes.subarray(at, at + buffer.length);
        buffer.set(part);
        return part.length;
      },
      // Takes at most 1000 bytes at once: a caller must not rely on more.
      write: (buffer, { at }) => {
        const part = buffer.subarray(0, 1000);
        const grown = Math.max(0, at + part.length - this.bytes.length);
        const full = this.#directory.used + grown > this.#directory.quota;
        if (full && this.#directory.lies === "at once") return part.length;
        if (full && !this.#directory.lies) throw new DOMException("full", "QuotaExceededError");
        const bytes = new Uint8Array(this.bytes.length + grown);
        bytes.set(this.bytes);
        bytes.set(part, at);
        this.bytes = bytes;
        return part.length;
      },
      truncate: (size) => {
        this.bytes = this.bytes.slice(0, size);
      },
      flush: () => undefined,
      close: () => {
        this.locked = false;
        if (this.#directory.lies) this.bytes = this.bytes.slice(0, this.#directory.quota);
      },
    };
  }
}
