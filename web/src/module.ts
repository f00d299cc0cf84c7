// The wasm module: what it exports, which of its two builds this engine can run, and how it is started.

import { failure, messageOf } from "./errors.js";
import type { Source } from "./models/folder.js";
import type { Assets, ModuleUrls, WireRequest } from "./protocol.js";
import type { EngineEvent, EngineInfo, EngineOptions, ImageInfo } from "./types.js";

/** The engine inside the module. */
export interface WasmEngine {
  fetch(request: WireRequest & { signal?: AbortSignal }): Promise<Response>;
  info(): EngineInfo;
  persist(): Promise<void>;
  images(): Promise<ImageInfo[]>;
  lose_device(): void;
  dispose(): Promise<void>;
}

/** What the module is given. */
export interface Host {
  source: Source;
  /** Slot images; where it is absent, IndexedDB. */
  store?: SlotFiles;
  progress(loaded: number, total: number): void;
  event(event: EngineEvent): void;
  /** Has another thread call `run_helper` with this pointer. */
  spawn?(pointer: number): void;
}

export interface SlotFiles {
  put(name: string, parts: Uint8Array[]): Promise<number>;
  get(name: string): Promise<Uint8Array | undefined>;
  remove(name: string): Promise<boolean>;
  list(): Promise<string[]>;
}

export type LoadOptions = Omit<
  EngineOptions,
  "model" | "cache" | "assets" | "folder" | "signal" | "onProgress" | "onEvent"
> & {
  modelName: string;
};

/** The JavaScript glue of the module. */
export interface Glue {
  default(start: { module_or_path: WebAssembly.Module; memory?: WebAssembly.Memory }): Promise<{
    memory: WebAssembly.Memory;
  }>;
  Engine: { load(options: LoadOptions, host: Host): Promise<WasmEngine> };
  Sha256: new () => { update(bytes: Uint8Array): void; finish(): string };
  set_log(log: (level: string, line: string) => void): void;
  /** Only in the build with threads. */
  run_helper?(pointer: number): void;
}

/** A started module, and what a helper thread needs to join it. */
export interface Started {
  glue: Glue;
  glueUrl: string;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** Whether helper threads can join it. */
  threads: boolean;
  /** Why the build with threads did not start, where it should have. */
  instead?: string;
}

/** How a platform loads code. */
export interface Loader {
  importGlue(url: string): Promise<Glue>;
  compile(url: string): Promise<WebAssembly.Module>;
}

/** Starts the better of the two builds that this engine can run. */
export async function startModule(assets: Assets, loader: Loader, threads = runsThreads()): Promise<Started> {
  if (!runsSimd()) {
    throw failure(
      "not_supported",
      "This browser is too old: its WebAssembly has no SIMD (Chrome 91, Firefox 89, Safari 16.4 have it).",
    );
  }
  if (!threads) return start(assets.simd, loader);
  try {
    return await start(assets.threads, loader);
  } catch (thrown) {
    // A shared memory takes its largest size of addresses at once, which some devices do not give.
    const plain = await start(assets.simd, loader).catch(() => undefined);
    if (!plain) throw thrown;
    return { ...plain, instead: messageOf(thrown) };
  }
}

async function start({ glue: glueUrl, wasm }: ModuleUrls, { importGlue, compile }: Loader): Promise<Started> {
  const [glue, module] = await Promise.all([attempt(importGlue(glueUrl), glueUrl), attempt(compile(wasm), wasm)]);
  const { memory } = await attempt(glue.default({ module_or_path: module }), wasm);
  return { glue, glueUrl, module, memory, threads: isShared(memory) };
}

async function attempt<T>(part: Promise<T>, url: string): Promise<T> {
  try {
    return await part;
  } catch (thrown) {
    throw failure(
      "worker_error",
      `The library's own file ${url} cannot be loaded: ${messageOf(thrown)}. With a bundler that does not copy it, serve the ` +
        "package's dist folder and name it with {assets}.",
      thrown,
    );
  }
}

// Modules of one function each, as small as they can be: `() -> v128` and `() -> i32`.
const HEAD = [0, 97, 115, 109, 1, 0, 0, 0];
const RETURNS_V128 = [1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0];
/** `i32.const 0; i8x16.splat`, twice, then the operation. */
const TWO_VECTORS = [65, 0, 253, 15, 65, 0, 253, 15];

const code = (...body: number[]): number[] => [10, body.length + 4, 1, body.length + 2, 0, ...body, 11];
const valid = (...bytes: number[]): boolean => WebAssembly.validate(new Uint8Array(bytes));

/** `i8x16.add` */
export const runsSimd = (): boolean => valid(...HEAD, ...RETURNS_V128, ...code(...TWO_VECTORS, 253, 110));

/** `i16x8.relaxed_dot_i8x16_i7x16_s`, and a shared memory: the build has one even where it runs on one thread. */
export function runsThreads(): boolean {
  if (!valid(...HEAD, ...RETURNS_V128, ...code(...TWO_VECTORS, 253, 146, 2))) return false;
  try {
    return isShared(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }));
  } catch {
    return false;
  }
}

/** The class itself is hidden on pages that are not isolated. */
const isShared = ({ buffer }: WebAssembly.Memory): boolean => buffer.constructor.name === "SharedArrayBuffer";
