// Slot images as files, as the native server keeps them: written under a temporary name, synced, and renamed.

import { open, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

import type { SlotFiles } from "../module.js";

/** Marks files that a crash may leave behind. */
const TEMPORARY = ".reprise-tmp-";

/** A folder of slot images. A `/` in a name is a folder below it. */
export class SlotFolder implements SlotFiles {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async put(name: string, parts: Uint8Array[]): Promise<number> {
    const path = this.#place(name);
    await mkdir(dirname(path), { recursive: true });
    const temporary = join(dirname(path), `${TEMPORARY}${process.pid}-${Math.random().toString(36).slice(2)}`);
    let length = 0;
    try {
      const file = await open(temporary, "wx", 0o600);
      try {
        for (const part of parts) {
          await file.writeFile(part);
          length += part.length;
        }
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (thrown) {
      await rm(temporary, { force: true });
      throw thrown;
    }
    return length;
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    const path = this.#place(name);
    try {
      return await readFile(path);
    } catch (thrown) {
      if (isMissing(thrown)) return undefined;
      throw thrown;
    }
  }

  async remove(name: string): Promise<boolean> {
    try {
      await rm(this.#place(name));
      return true;
    } catch (thrown) {
      if (isMissing(thrown)) return false;
      throw thrown;
    }
  }

  async list(): Promise<string[]> {
    try {
      const entries = await readdir(this.#path, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile() && !entry.name.startsWith(TEMPORARY))
        .map((entry) => join(entry.parentPath, entry.name).slice(this.#path.length + 1))
        .map((name) => name.replaceAll("\\", "/"))
        .sort();
    } catch (thrown) {
      if (isMissing(thrown)) return [];
      throw thrown;
    }
  }

  /** The engine has checked names already; what could leave the folder is refused here all the same. */
  #place(name: string): string {
    const parts = name.split("/");
    if (parts.some((part) => part === "" || part === "." || part === ".." || /[\\\0]/.test(part))) {
      throw new Error(`'${name}' is no name of a slot file`);
    }
    return join(this.#path, ...parts);
  }
}

const isMissing = (thrown: unknown): boolean => (thrown as { code?: unknown }).code === "ENOENT";
