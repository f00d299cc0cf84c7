// The scripted module as assets on disk, and model files that only look like models.

import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const TWIN = fileURLToPath(new URL("../../test/twin/reprise.js", import.meta.url));
/** The smallest module there is; the twin does not look at it. */
const EMPTY_MODULE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

/** Writes `wasm/{simd,threads}` with the twin into a folder. */
export async function writeTwin(folder: string): Promise<void> {
  for (const build of ["simd", "threads"]) {
    const target = join(folder, "wasm", build);
    await mkdir(target, { recursive: true });
    const twin = (await readFile(TWIN, "utf8")).replace("SHARED = true", `SHARED = ${build === "threads"}`);
    await writeFile(join(target, "reprise.js"), twin);
    await writeFile(join(target, "reprise_bg.wasm"), EMPTY_MODULE);
  }
}

/** A folder that is removed after `body`. */
export async function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "reprise-test-"));
  try {
    return await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Bytes that begin like a GGUF; the rest is a pattern in which every place differs from its neighbours. */
export function lookalike(size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index += 1) bytes[index] = (index * 31 + (index >> 8)) & 255;
  bytes.set(new TextEncoder().encode("GGUF"));
  return bytes;
}
