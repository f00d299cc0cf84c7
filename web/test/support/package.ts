// The package as an application has it in `node_modules`, with the scripted module in place of the real one.

import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { lookalike, writeTwin } from "./twin.js";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

/** What every application under test does: start, and say what came of it. */
const MAIN = (options: string): string => `
import { createEngine } from "reprise";
globalThis.run = async () => {
  const progress = [];
  const engine = await createEngine({ model: "model.gguf", threads: 2, onProgress: (p) => progress.push(p), ${options} });
  const { text } = await engine.chat({ messages: [{ role: "user", content: "it works here" }] }).result();
  const { threads } = await engine.info();
  await engine.dispose();
  return { text, threads, file: progress.at(-1).file };
};
`;

/** What `run` gives when all went well. */
export const WORKS = { text: "it works here", threads: 2, file: "model.gguf" };

/** Copies the package into `folder/node_modules/reprise`. */
export async function installPackage(folder: string): Promise<string> {
  const target = join(folder, "node_modules/reprise");
  await mkdir(target, { recursive: true });
  await cp(join(PACKAGE, "package.json"), join(target, "package.json"));
  const built = join(PACKAGE, "dist");
  await cp(built, join(target, "dist"), { recursive: true, filter: (path) => path !== join(built, "wasm") });
  await writeTwin(join(target, "dist"));
  return target;
}

/** Writes an application that uses the package: `index.html`, `main.js`, and in `public` a model. */
export async function writeApplication(folder: string, options = ""): Promise<void> {
  await installPackage(folder);
  await mkdir(join(folder, "public"), { recursive: true });
  await writeFile(join(folder, "public/model.gguf"), lookalike(100_000));
  await writeFile(join(folder, "main.js"), MAIN(options));
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await writeFile(
    join(folder, "index.html"),
    '<!doctype html><title>app</title><script type="module" src="./main.js"></script>',
  );
}
