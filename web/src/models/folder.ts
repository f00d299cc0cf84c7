// What the model cache asks of a place that holds files: OPFS, a folder on disk, or memory.

/** Bytes to be read by ranges. The engine reads a model through this, so that it never lies in memory as a whole. */
export interface Source {
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset` on. */
  read(offset: number, length: number): Uint8Array | Promise<Uint8Array>;
  close?(): void | Promise<void>;
}

/** A file that is open for writing; no other tab or process can open it meanwhile, where the place can tell. */
export interface Writable {
  readonly size: number;
  write(bytes: Uint8Array, at: number): void;
  read(offset: number, length: number): Uint8Array;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** A flat folder of files. */
export interface Folder {
  list(): Promise<string[]>;
  /** For reading; `undefined` when there is no such file. */
  source(name: string): Promise<Source | undefined>;
  /** For writing; created if need be. */
  open(name: string): Promise<Writable>;
  /** Of no effect when there is no such file. */
  remove(name: string): Promise<void>;
}

/** Cuts a range so that it lies in `size` bytes, or complains: a file that shrank must not read as zeros. */
export function checkRange(offset: number, length: number, size: number): void {
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new RangeError(`bytes ${offset} to ${offset + length} of a file of ${size} bytes`);
  }
}
