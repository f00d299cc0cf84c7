// A folder on disk, for models that Node downloads.

import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
  constants,
} from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { checkRange, type Folder, type Source, type Writable } from "../models/folder.js";

export const modelsFolder = (folder: string): string => join(folder, "models");

export class DiskFolder implements Folder {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async list(): Promise<string[]> {
    return (await missing(readdir(this.#path))) ?? [];
  }

  async source(name: string): Promise<Source | undefined> {
    return missing(openSource(join(this.#path, name)));
  }

  async open(name: string): Promise<Writable> {
    mkdirSync(this.#path, { recursive: true });
    return new DiskFile(openSync(join(this.#path, name), constants.O_RDWR | constants.O_CREAT, 0o644));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.#path, name), { force: true });
  }
}

/** A file for reading. */
export async function openSource(path: string): Promise<Source> {
  return new DiskFile(openSync(path, "r"));
}

class DiskFile implements Source, Writable {
  readonly #file: number;

  constructor(file: number) {
    this.#file = file;
  }

  get size(): number {
    return fstatSync(this.#file).size;
  }

  read(offset: number, length: number): Uint8Array {
    checkRange(offset, length, this.size);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const read = readSync(this.#file, bytes, done, length - done, offset + done);
      if (read === 0) throw new RangeError("the file ended while it was read");
      done += read;
    }
    return bytes;
  }

  write(bytes: Uint8Array, at: number): void {
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.#file, bytes, done, bytes.length - done, at + done);
    }
  }

  truncate(size: number): void {
    ftruncateSync(this.#file, size);
  }

  flush(): void {
    fsyncSync(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** `undefined` for what is not there. */
async function missing<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code === "ENOENT") return undefined;
    throw thrown;
  }
}
