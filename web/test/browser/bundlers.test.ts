// The package in applications built by Vite, webpack, esbuild, and by nothing, each started in Chromium.

import assert from "node:assert/strict";
import { cp, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import * as esbuild from "esbuild";
import type { Browser } from "playwright-core";
import * as vite from "vite";
import webpack from "webpack";

import { launch, StaticServer } from "../support/chromium.js";
import { WORKS, writeApplication } from "../support/package.js";
import { withFolder } from "../support/twin.js";

let browser: Browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Opens a page and calls its `run`. */
async function runAt(url: string): Promise<unknown> {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  try {
    await page.goto(url);
    await page
      .waitForFunction("globalThis.run", undefined, { timeout: 120_000 })
      .catch(() => assert.fail(`the page did not start: ${complaints.join("; ")}`));
    return await page.evaluate("run()");
  } finally {
    await page.close();
  }
}

/** Serves folders and runs the page of the first. */
async function serveAndRun(folders: Record<string, string>, path = "/"): Promise<unknown> {
  const server = await StaticServer.start(folders, true);
  try {
    return await runAt(server.url + path);
  } finally {
    await server.stop();
  }
}

test("no bundler: modules and an import map", () =>
  withFolder(async (folder) => {
    await writeApplication(folder);
    const map = '<script type="importmap">{"imports": {"reprise": "/node_modules/reprise/dist/index.js"}}</script>';
    await writeFile(join(folder, "index.html"), `<!doctype html>${map}<script type="module" src="./main.js"></script>`);
    assert.deepEqual(await serveAndRun({ "/": folder, "/model.gguf": join(folder, "public/model.gguf") }), WORKS);
  }));

const writeApplicationWithAssets = (folder: string, assets: string): Promise<void> =>
  writeApplication(folder, `assets: ${JSON.stringify(assets)}`);

test("no bundler: the package on another origin", () =>
  withFolder(async (folder) => {
    const other = await StaticServer.start({ "/": join(folder, "node_modules") }, true);
    const base = `${other.url}/reprise/dist/`;
    await writeApplicationWithAssets(folder, base);
    const map = `<script type="importmap">{"imports": {"reprise": "${base}index.js"}}</script>`;
    await writeFile(join(folder, "index.html"), `<!doctype html>${map}<script type="module" src="./main.js"></script>`);
    assert.deepEqual(await serveAndRun({ "/": folder, "/model.gguf": join(folder, "public/model.gguf") }), WORKS);
    await other.stop();
  }));

test("Vite, built, without any configuration", () =>
  withFolder(async (folder) => {
    await writeApplication(folder);
    await vite.build({ root: folder, logLevel: "error", configFile: false });
    assert.ok((await readdir(join(folder, "dist/assets"))).some((name) => name.includes("worker")));
    assert.deepEqual(await serveAndRun({ "/": join(folder, "dist") }), WORKS);
  }));

test("Vite's development server, with the package left out of its pre-bundling", () =>
  withFolder(async (folder) => {
    await writeApplication(folder);
    const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    const server = await vite.createServer({
      root: folder,
      logLevel: "error",
      configFile: false,
      optimizeDeps: { exclude: ["reprise"] },
      server: { port: 0, host: "127.0.0.1", headers, hmr: false, watch: null },
    });
    await server.listen();
    assert.deepEqual(await runAt(server.resolvedUrls!.local[0]!), WORKS);
    await server.close();
  }));

test("webpack, without any configuration", () =>
  withFolder(async (folder) => {
    await writeApplication(folder);
    const compiler = webpack({
      context: folder,
      mode: "production",
      entry: "./main.js",
      output: { path: join(folder, "out") },
    });
    assert.ok(compiler);
    const stats = await promisify(compiler.run.bind(compiler))();
    assert.deepEqual(stats?.toJson({ all: false, errors: true, warnings: true }).errors, []);
    await promisify(compiler.close.bind(compiler))();
    await writeFile(join(folder, "out/index.html"), '<!doctype html><script src="main.js"></script>');
    assert.deepEqual(
      await serveAndRun({ "/": join(folder, "out"), "/model.gguf": join(folder, "public/model.gguf") }),
      WORKS,
    );
  }));

test("esbuild, with the package's files beside the output", () =>
  withFolder(async (folder) => {
    await writeApplicationWithAssets(folder, "/reprise/");
    await esbuild.build({
      entryPoints: [join(folder, "main.js")],
      bundle: true,
      format: "esm",
      outdir: join(folder, "out"),
      logLevel: "error",
    });
    await cp(join(folder, "node_modules/reprise/dist"), join(folder, "out/reprise"), { recursive: true });
    await cp(join(folder, "index.html"), join(folder, "out/index.html"));
    assert.deepEqual(
      await serveAndRun({ "/": join(folder, "out"), "/model.gguf": join(folder, "public/model.gguf") }),
      WORKS,
    );
  }));
