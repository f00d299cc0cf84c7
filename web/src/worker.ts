// The dedicated worker of a page. One file for both roles: the engine's own thread, and its helpers.

import { runEngine, type Platform } from "./boot.js";
import { askForSubgroups, checkGpu } from "./gpu.js";
import { help, type StartWorker } from "./helpers.js";
import { opfsFolder } from "./models/opfs.js";
import type { Role } from "./protocol.js";
import type { Glue } from "./module.js";

const importGlue = (url: string): Promise<Glue> =>
  import(/* webpackIgnore: true */ /* @vite-ignore */ url) as Promise<Glue>;

/** Compiles while it downloads, where the server names the right type. */
async function compile(url: string): Promise<WebAssembly.Module> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`status ${response.status}`);
  if (response.headers.get("content-type")?.startsWith("application/wasm")) {
    return WebAssembly.compileStreaming(response);
  }
  return WebAssembly.compile(await response.arrayBuffer());
}

const startWorker: StartWorker = (failed) => {
  const worker = new Worker(self.location.href, { type: "module" });
  worker.onerror = (event) => {
    event.preventDefault();
    failed(event.message);
  };
  return worker;
};

async function free(): Promise<number | undefined> {
  const { quota, usage } = (await navigator.storage?.estimate?.()) ?? {};
  return quota === undefined ? undefined : quota - (usage ?? 0);
}

/** Half of the hardware's threads are what shares a core with another one; beyond eight, memory is the limit. */
function cores(): number {
  const threads = navigator.hardwareConcurrency || 1;
  return threads <= 4 ? threads : Math.min(8, Math.ceil(threads / 2));
}

const platform: Platform = {
  importGlue,
  compile,
  models: () => opfsFolder(navigator.storage),
  slots: () => undefined,
  tools: {
    fetch: (url, init) => fetch(url, init),
    online: () => navigator.onLine,
    mayAskIfRange: (url) => new URL(url).origin === self.origin,
    pause: (time) => new Promise((resume) => setTimeout(resume, time)),
    free,
    lock: async (name, body) => (navigator.locks ? await navigator.locks.request(name, body) : body()),
  },
  startWorker,
  isolated: self.crossOriginIsolated,
  cores: cores(),
  checkGpu,
};

askForSubgroups();

self.addEventListener("message", ({ data }: MessageEvent<Role>) => {
  if (data.role === "engine") runEngine(data, platform);
  // A helper that cannot start is an uncaught error of its worker, which the engine's thread listens to.
  else void help(data, importGlue).catch((thrown: unknown) => reportError(thrown));
});
