// The engine's thread in Node, and its helpers.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parentPort, Worker } from "node:worker_threads";

import { runEngine, type Platform } from "../boot.js";
import { failure, messageOf } from "../errors.js";
import { help, type StartWorker } from "../helpers.js";
import type { Role } from "../protocol.js";
import type { Glue } from "../module.js";
import { DiskFolder, modelsFolder, openSource } from "./folder.js";
import { SlotFolder } from "./slot-files.js";

const importGlue = (url: string): Promise<Glue> => import(url) as Promise<Glue>;

async function compile(url: string): Promise<WebAssembly.Module> {
  if (url.startsWith("file:")) return WebAssembly.compile(await readFile(fileURLToPath(url)));
  const response = await fetch(url);
  if (!response.ok) throw new Error(`status ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

const startWorker: StartWorker = (failed) => {
  const worker = new Worker(new URL(import.meta.url), { name: "reprise-helper", execArgv: [] });
  worker.once("error", failed);
  worker.unref();
  return {
    postMessage: (role, transfer) => worker.postMessage(role, transfer as never),
    terminate: () => worker.terminate(),
  };
};

/** Those who wait for a lock, by its name. Another process is not kept out: it would write the same bytes. */
const locks = new Map<string, Promise<unknown>>();

async function lock<T>(name: string, body: () => Promise<T>): Promise<T> {
  const turn = (locks.get(name) ?? Promise.resolve()).then(body, body);
  locks.set(
    name,
    turn.catch(() => undefined),
  );
  return turn;
}

const platform: Platform = {
  importGlue,
  compile,
  models: async ({ folder }) => (folder === undefined ? undefined : new DiskFolder(modelsFolder(folder))),
  async open(path) {
    try {
      return await openSource(path);
    } catch (thrown) {
      throw failure("model_not_found", `The model file ${path} cannot be opened: ${messageOf(thrown)}`, thrown);
    }
  },
  slots: ({ folder, slotFiles, persist }) =>
    folder === undefined || slotFiles === false
      ? undefined
      : new SlotFolder(join(folder, ["slots", persist?.namespace].filter(Boolean).join("-"))),
  tools: {
    fetch: (url, init) => fetch(url, init),
    online: () => true,
    mayAskIfRange: () => true,
    pause: (time) => new Promise((resume) => setTimeout(resume, time)),
    free: async () => undefined,
    lock,
  },
  startWorker,
  isolated: true,
  cores: Math.min(8, availableParallelism()),
  checkGpu: async () => {
    throw failure("no_webgpu", 'There is no WebGPU in Node. Use the backend "auto" or "wasm".');
  },
};

parentPort?.on("message", (role: Role) => {
  if (role.role === "engine") {
    // Slot images are written by themselves only when that is asked for; a server's folder has one owner.
    const persist = { automatic: false, ...role.options.persist };
    const backend = role.options.backend === "webgpu" ? "webgpu" : "wasm";
    runEngine({ ...role, options: { ...role.options, backend, persist } }, platform);
  } else {
    void help(role, importGlue);
  }
});
