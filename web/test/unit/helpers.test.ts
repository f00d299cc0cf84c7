// Helper threads: started beforehand, sharing the module's memory, each running what it is sent.

import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import { Helpers, type StartWorker } from "reprise/dist/helpers.js";
import { runsSimd, runsThreads, startModule, type Glue, type Started } from "reprise/dist/module.js";

import { withFolder, writeTwin } from "../support/twin.js";

const startWorker: StartWorker = (failed) => {
  const worker = new Worker(new URL(import.meta.resolve("reprise/dist/node/worker.js")));
  worker.once("error", failed);
  return {
    postMessage: (role, transfer) => worker.postMessage(role, transfer as never),
    terminate: () => worker.terminate(),
  };
};

test("helpers run in the shared memory, and missing ones are missing", () =>
  withFolder(async (folder) => {
    await writeTwin(folder);
    const url = pathToFileURL(join(folder, "wasm/threads/reprise.js")).href;
    const glue = (await import(url)) as Glue;
    const module = new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
    const { memory } = await glue.default({ module_or_path: module });
    const cells = new Int32Array(memory.buffer);
    const helpers = new Helpers();
    await helpers.start(2, { glue, glueUrl: url, module, memory, threads: true }, startWorker);
    assert.equal(helpers.count, 2);
    helpers.spawn(5);
    helpers.spawn(6);
    for (const cell of [5, 6]) {
      const { async: waiting, value } = Atomics.waitAsync(cells, cell, 0, 10_000);
      assert.equal(waiting ? await value : "ok", "ok");
      assert.equal(Atomics.load(cells, cell), 1);
    }
    assert.throws(() => helpers.spawn(7), /more helper threads/);
    helpers.stop();
    const none = new Helpers();
    await none.start(2, { glue, glueUrl: `${url}.missing`, module, memory, threads: true }, startWorker);
    assert.equal(none.count, 0);
    none.stop();
  }));

test("the build is chosen by what this engine runs", async () => {
  assert.equal(runsSimd(), true);
  // Relaxed SIMD came with V8 11.4, in Node 21.
  assert.equal(runsThreads(), Number(process.versions.node.split(".")[0]) >= 21);
  for (const threads of [true, false]) {
    const { asked, started } = await start(threads, {});
    assert.deepEqual(asked, threads ? ["t.js", "t.wasm"] : ["s.js", "s.wasm"]);
    // The memory of these modules is not shared, whatever they were built for.
    assert.deepEqual([started.threads, started.instead], [false, undefined]);
  }
});

test("where the build with threads does not start, the other one does, and says so", async () => {
  const { asked, started } = await start(true, { "t.wasm": "no room for a shared memory" });
  assert.deepEqual(asked, ["t.js", "t.wasm", "s.js", "s.wasm"]);
  assert.match(started.instead ?? "", /t\.wasm cannot be loaded: no room/);
  const first = { type: "worker_error", message: /t\.wasm cannot be loaded: first/ };
  await assert.rejects(start(true, { "t.wasm": "first", "s.js": "second" }), first);
  await assert.rejects(start(false, { "s.js": "gone" }), {
    type: "worker_error",
    message: /s\.js cannot be loaded: gone/,
  });
});

/** Starts a module whose files named in `broken` fail with those words. */
async function start(threads: boolean, broken: Record<string, string>): Promise<{ asked: string[]; started: Started }> {
  const asked: string[] = [];
  const glue = { default: async () => ({ memory: new WebAssembly.Memory({ initial: 1 }) }) } as unknown as Glue;
  const assets = { simd: { glue: "s.js", wasm: "s.wasm" }, threads: { glue: "t.js", wasm: "t.wasm" } };
  const load = async <T>(url: string, part: T): Promise<T> => {
    asked.push(url);
    if (broken[url]) throw new Error(broken[url]);
    return part;
  };
  const compile = (url: string): Promise<WebAssembly.Module> =>
    load(url, new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])));
  const started = await startModule(assets, { importGlue: (url) => load(url, glue), compile }, threads);
  return { asked, started };
}
