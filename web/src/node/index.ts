// The package in Node 20 and later: the same API, with threads of `worker_threads`, the wasm backend, and files.

import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { Engine, startEngine, type EngineWorker } from "../engine.js";
import { messageOf } from "../errors.js";
import { toWireModel } from "../model.js";
import { listRecords, removeRecord } from "../models/record.js";
import type { Assets, WireModel } from "../protocol.js";
import type { CachedModel, EngineOptions, Model } from "../types.js";
import { DiskFolder, modelsFolder } from "./folder.js";

export { Client, connect, type ConnectOptions } from "../client.js";
export { Subscription } from "../dispose.js";
export { Engine } from "../engine.js";
export { RepriseError, type LibraryErrorType } from "../errors.js";
export { exposeToServiceWorker } from "../expose.js";
export { Generation } from "../generation.js";
export { Session, type SessionOptions } from "../session.js";
export { Slots } from "../slots.js";
export { storageState, type StorageState } from "../storage.js";
export type * from "../types.js";

/** Loads a model into a thread of its own. The engine alone does not keep the process alive; requests do. */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const folder = options.folder ?? defaultFolder();
  const base = options.assets === undefined ? new URL("../", import.meta.url) : assetsBase(options.assets);
  const at = (path: string): string => new URL(path, base).href;
  const assets: Assets = {
    simd: { glue: at("wasm/simd/reprise.js"), wasm: at("wasm/simd/reprise_bg.wasm") },
    threads: { glue: at("wasm/threads/reprise.js"), wasm: at("wasm/threads/reprise_bg.wasm") },
  };
  // First what can be wrong without a thread.
  const model = toNodeModel(options.model);
  const worker = startWorker();
  const engine = await startEngine(worker, model, { ...options, folder }, assets);
  worker.hold?.(false);
  return engine;
}

/** The model files that were downloaded into the folder, whole or in part. */
export async function listModels({ folder = defaultFolder() }: { folder?: string } = {}): Promise<CachedModel[]> {
  return (await listRecords(new DiskFolder(modelsFolder(folder)))).map(({ model }) => model);
}

/** Deletes a downloaded model file; tells whether there was one. */
export function deleteModel(
  url: string | URL,
  { folder = defaultFolder() }: { folder?: string } = {},
): Promise<boolean> {
  return removeRecord(new DiskFolder(modelsFolder(folder)), String(url));
}

/** Where models and slot images go unless the option `folder` says otherwise. */
function defaultFolder(): string {
  const { REPRISE_CACHE, XDG_CACHE_HOME } = process.env;
  return join(REPRISE_CACHE || join(XDG_CACHE_HOME || join(homedir(), ".cache"), "reprise"), "node");
}

function assetsBase(assets: string | URL): URL {
  const text = String(assets).replace(/\/*$/, "/");
  return URL.canParse(text) ? new URL(text) : pathToFileURL(resolve(text) + "/");
}

/** A string that is no URL is a path, and so is a `file:` URL. */
function toNodeModel(model: Model): WireModel {
  if (typeof model === "string" && !/^[a-z][a-z0-9+.-]+:/i.test(model)) return { kind: "path", path: resolve(model) };
  const wire = toWireModel(model, undefined);
  return wire.kind === "url" && wire.url.startsWith("file:") ? { kind: "path", path: fileURLToPath(wire.url) } : wire;
}

function startWorker(): EngineWorker {
  // Flags of the program, like `--input-type`, are not the thread's.
  const worker = new Worker(new URL("./worker.js", import.meta.url), { name: "reprise", execArgv: [] });
  const engineWorker: EngineWorker = {
    postMessage: (role, transfer) => worker.postMessage(role, transfer as never),
    terminate: () => worker.terminate(),
    onfailure: undefined,
    hold: (alive) => (alive ? worker.ref() : worker.unref()),
  };
  worker.on("error", (error) => engineWorker.onfailure?.(`The engine's thread failed: ${messageOf(error)}`));
  worker.on("exit", (code) => engineWorker.onfailure?.(`The engine's thread ended with code ${code}.`));
  return engineWorker;
}
