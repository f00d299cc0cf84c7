// The package in a browser: starts the worker, keeps the page's events, and manages the kept model files.

import { Engine, startEngine, type EngineWorker } from "./engine.js";
import { failure } from "./errors.js";
import { toWireModel } from "./model.js";
import { opfsFolder } from "./models/opfs.js";
import { listRecords, removeRecord } from "./models/record.js";
import type { Assets } from "./protocol.js";
import { askToPersist } from "./storage.js";
import type { CachedModel, EngineOptions } from "./types.js";

export { Client, connect, type ConnectOptions } from "./client.js";
export { Subscription } from "./dispose.js";
export { Engine } from "./engine.js";
export { RepriseError, type LibraryErrorType } from "./errors.js";
export { exposeToServiceWorker } from "./expose.js";
export { Generation } from "./generation.js";
export { Session, type SessionOptions } from "./session.js";
export { Slots } from "./slots.js";
export { storageState, type StorageState } from "./storage.js";
export type * from "./types.js";

/**
 * Loads a model into a worker of its own.
 *
 * @throws RepriseError with the reason and what to do: no GGUF, cut short, not found, offline, another SHA-256 or size, too
 * large, no WebGPU, no cross-origin isolation, no room in storage, or a worker that cannot be started.
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const model = toWireModel(options.model, base);
  const assets =
    options.assets === undefined ? undefined : new URL(`${String(options.assets).replace(/\/*$/, "")}/`, base);
  const engine = startEngine(startWorker(assets), model, options, assetsAt(assets), (engine) =>
    attach(engine, options),
  );
  // Nobody waits for it: some browsers ask the person.
  void engine.then(() => askToPersist()).catch(() => undefined);
  return engine;
}

/** The model files that were kept in this browser, whole or in part. */
export async function listModels(): Promise<CachedModel[]> {
  const folder = await opfsFolder(navigator.storage);
  return folder ? (await listRecords(folder)).map(({ model }) => model) : [];
}

/** Deletes a kept model file by the `url` that {@link listModels} shows; tells whether there was one. */
export async function deleteModel(url: string | URL): Promise<boolean> {
  const folder = await opfsFolder(navigator.storage);
  if (!folder) return false;
  const listed = (await listRecords(folder)).some(({ model }) => model.url === String(url));
  return removeRecord(folder, listed ? String(url) : new URL(url, globalThis.document?.baseURI).href);
}

// The bundlers that follow such URLs do so only when they stand here literally.

function startWorker(assets: URL | undefined): EngineWorker {
  let worker: Worker;
  try {
    worker = assets
      ? workerAt(new URL("worker.js", assets))
      : new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "reprise" });
  } catch (thrown) {
    throw failure("worker_error", couldNotStart(String(thrown)), thrown);
  }
  const engineWorker: EngineWorker = {
    postMessage: (role, transfer) => worker.postMessage(role, transfer),
    terminate: () => worker.terminate(),
    onfailure: undefined,
  };
  worker.onerror = (event) => {
    event.preventDefault();
    // Without a message the script itself did not load.
    engineWorker.onfailure?.(
      event.message ? `The engine's worker failed: ${event.message}` : couldNotStart("its script did not load"),
    );
  };
  return engineWorker;
}

const couldNotStart = (why: string): string =>
  `The engine's worker could not be started: ${why}. Check that the package's dist/worker.js is served as JavaScript (with ` +
  "bundlers that do not copy it, see the option `assets`) and that no Content-Security-Policy forbids workers.";

/** A worker of another origin is not allowed; one that imports it is. */
function workerAt(url: URL): Worker {
  const own = url.origin === globalThis.location.origin;
  const script = `import ${JSON.stringify(url.href)};`;
  const href = own ? url : URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  return new Worker(href, { type: "module", name: "reprise" });
}

function assetsAt(base: URL | undefined): Assets {
  const at = (path: string): string => new URL(path, base).href;
  if (base) {
    return {
      simd: { glue: at("wasm/simd/reprise.js"), wasm: at("wasm/simd/reprise_bg.wasm") },
      threads: { glue: at("wasm/threads/reprise.js"), wasm: at("wasm/threads/reprise_bg.wasm") },
    };
  }
  return {
    simd: {
      glue: new URL("./wasm/simd/reprise.js", import.meta.url).href,
      wasm: new URL("./wasm/simd/reprise_bg.wasm", import.meta.url).href,
    },
    threads: {
      glue: new URL("./wasm/threads/reprise.js", import.meta.url).href,
      wasm: new URL("./wasm/threads/reprise_bg.wasm", import.meta.url).href,
    },
  };
}

/** Saves the slots when the page is hidden; gives the end of it. */
function attach(engine: Engine, { persist }: EngineOptions): () => void {
  const save = (): void => void engine.persist().catch(() => undefined);
  const hidden = (): void => {
    if (document.visibilityState === "hidden") save();
  };
  if (persist?.automatic === false || typeof document === "undefined") return () => undefined;
  document.addEventListener("visibilitychange", hidden);
  globalThis.addEventListener("pagehide", save);
  return () => {
    document.removeEventListener("visibilitychange", hidden);
    globalThis.removeEventListener("pagehide", save);
  };
}
