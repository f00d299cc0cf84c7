// Modules of the page that need no page, compiled for Node.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "vite";
import { ROOT } from "./env.mjs";

/** Imports `www/src/<name>.ts`. */
export async function unit(name) {
  const folder = mkdtempSync(path.join(tmpdir(), "reprise-unit-"));
  try {
    await build({
      configFile: false,
      root: path.join(ROOT, "www"),
      logLevel: "error",
      ssr: { noExternal: true },
      build: { ssr: `src/${name}.ts`, outDir: folder, minify: false, rolldownOptions: { output: { entryFileNames: "unit.mjs" } } },
    });
    return await import(pathToFileURL(path.join(folder, "unit.mjs")).href);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
