// The worker's life: start the module, open the model, load the engine, then answer. The same in a browser and in Node; what
// differs is in `Platform`.

import { failure, messageOf, RepriseError, toParts } from "./errors.js";
import { Helpers, type StartWorker } from "./helpers.js";
import { GIVEN, ModelCache, nameOf, type CacheTools } from "./models/cache.js";
import { checkMagic } from "./models/download.js";
import type { Folder, Source } from "./models/folder.js";
import { blobSource, bytesSource, MemoryFolder } from "./models/memory.js";
import type { CallName, Command, Notice, Role, WireModel, WireOptions } from "./protocol.js";
import { answer, serve } from "./serve.js";
import type { EngineEvent, Progress } from "./types.js";
import {
  startModule,
  type Host,
  type Loader,
  type LoadOptions,
  type SlotFiles,
  type Started,
  type WasmEngine,
} from "./module.js";

/** What a browser's worker and a thread of Node do differently. */
export interface Platform extends Loader {
  /** Where model files are kept; `undefined` where nothing can be kept. */
  models(options: WireOptions): Promise<Folder | undefined>;
  /** A file that is named by its path; only in Node. */
  open?(path: string): Promise<Source>;
  /** Where slot images are kept; `undefined` leaves it to the module (IndexedDB). */
  slots(options: WireOptions): SlotFiles | undefined;
  tools: Omit<CacheTools, "hasher">;
  startWorker: StartWorker;
  /** Whether memory can be shared with other threads. */
  isolated: boolean;
  /** Threads that this machine runs well. */
  cores: number;
  /** Fails with the reason when WebGPU was asked for and is not there. */
  checkGpu(): Promise<void>;
}

/** Bytes of the header that every GGUF has. */
const HEADER = 24;
/** Largest file whose weights can lie in the wasm backend's memory, of 4 GiB in all. */
const LARGEST_WASM_MODEL = 4 * 1024 ** 3 - 256 * 1024 ** 2;

/** Runs an engine until the port asks for its end. */
export function runEngine(
  { port, model, options, assets }: Extract<Role, { role: "engine" }>,
  platform: Platform,
): void {
  const start = new AbortController();
  const tell = (notice: Notice): void => port.postMessage(notice);
  const event = (event: EngineEvent): void => tell({ kind: "event", event });
  const helpers = new Helpers();
  let engine: WasmEngine | undefined;

  port.onmessage = ({ data }: MessageEvent<Command>) => {
    if (data.kind === "cancel") return start.abort();
    const loaded = engine;
    if (!loaded) return;
    if (data.kind === "fetch") {
      const { request, port } = data;
      void serve((request, signal) => loaded.fetch({ ...request, signal }), request, port);
    } else {
      void answer(() => call(loaded, helpers, data.name), data.port);
    }
  };

  const run = async (): Promise<void> => {
    await checkOptions(options, platform);
    const started = await startModule(assets, platform);
    started.glue.set_log((level, line) => event({ type: "log", level, line }));
    if (started.instead) event({ type: "log", level: "warn", line: `threads are off: ${started.instead}` });
    const progress = throttled((progress) => tell({ kind: "progress", progress }));
    const { source, name, discard } = await openModel(model, options, platform, started, progress, start.signal);
    const held = releasable(source);
    try {
      await checkModel(source, name, options);
      start.signal.throwIfAborted();
      const threads = await startHelpers(options, platform, started, helpers);
      const host: Host = {
        source: held,
        progress: (loaded, total) => progress({ phase: "load", loaded, total, file: name }),
        event,
      };
      const store = platform.slots(options);
      if (store) host.store = store;
      if (helpers.count > 0) host.spawn = (pointer) => helpers.spawn(pointer);
      engine = await load(started, { ...engineOptions(options), modelName: options.modelName ?? name, threads }, host);
      // A lost device is loaded again from the file; nothing else reads it any more.
      if (engine.info().backend === "wasm") await held.close();
    } catch (thrown) {
      await held.close();
      if (toParts(thrown).type === "invalid_model_error") await discard?.();
      throw thrown;
    }
    tell({ kind: "ready" });
  };
  run().catch((thrown: unknown) => {
    helpers.stop();
    tell({ kind: "failed", error: toParts(thrown) });
  });
}

async function call(engine: WasmEngine, helpers: Helpers, name: CallName): Promise<unknown> {
  switch (name) {
    case "info":
      return engine.info();
    case "persist":
      return engine.persist();
    case "images":
      return engine.images();
    case "loseDevice":
      return engine.lose_device();
    case "dispose":
      await engine.dispose();
      helpers.stop();
  }
}

/** Refuses at once what cannot be, before anything is downloaded. */
async function checkOptions({ backend, threads }: WireOptions, platform: Platform): Promise<void> {
  if (backend === "webgpu") return platform.checkGpu();
  if (threads !== undefined && threads > 1 && !platform.isolated) {
    throw failure(
      "not_isolated",
      `${threads} threads were asked for, but this page is not cross-origin isolated: serve it with the headers ` +
        "`Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`, or leave `threads` out.",
    );
  }
}

interface Opened {
  source: Source;
  name: string;
  /** Forgets a kept file that turned out to be no model: it may be whole on the server by the next time. */
  discard?: () => Promise<void>;
}

async function openModel(
  model: WireModel,
  options: WireOptions,
  platform: Platform,
  { glue }: Started,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Opened> {
  const report = (file: string) => (phase: Progress["phase"], loaded: number, total: number) =>
    progress({ phase, loaded, total, file });
  const cache = async (keep: boolean): Promise<ModelCache> => {
    const kept = keep ? await platform.models(options) : undefined;
    return new ModelCache(kept ?? new MemoryFolder(), { ...platform.tools, hasher: () => new glue.Sha256() });
  };
  switch (model.kind) {
    case "bytes":
      return { source: bytesSource(model.bytes), name: model.name };
    case "blob": {
      const { blob, name } = model;
      if (!options.cache) return { source: blobSource(blob), name };
      checkMagic(new Uint8Array(await blob.slice(0, HEADER).arrayBuffer()), 0, name);
      const files = await cache(true);
      const source = await files.keep(name, blob, report(name), signal);
      return { source, name, discard: () => files.discard(GIVEN + name) };
    }
    case "path": {
      const name = nameOf(model.path);
      if (!platform.open) throw failure("not_supported", `${model.path} is a path; a page can only fetch a URL.`);
      return { source: await platform.open(model.path), name };
    }
    case "url": {
      const name = nameOf(model.url);
      const files = await cache(options.cache ?? true);
      const source = await files.open(model, report(name), signal);
      return { source, name, discard: () => files.discard(model.url) };
    }
  }
}

/** What can be told of a file without reading it. */
async function checkModel(source: Source, name: string, { backend }: WireOptions): Promise<void> {
  checkMagic(await source.read(0, Math.min(HEADER, source.size)), 0, name);
  if (source.size < HEADER) {
    throw failure(
      "invalid_model_error",
      `${name} is cut short: it has ${source.size} bytes, less than the header of a GGUF file.`,
    );
  }
  if (backend === "wasm" && source.size > LARGEST_WASM_MODEL) {
    throw failure(
      "model_too_large_error",
      `${name} has ${source.size} bytes; the wasm backend has room for ${LARGEST_WASM_MODEL}. Use a smaller quantisation, or WebGPU.`,
    );
  }
}

/** Starts the helper threads; gives the number of threads with this one. */
async function startHelpers(
  options: WireOptions,
  platform: Platform,
  started: Started,
  helpers: Helpers,
): Promise<number> {
  if (!started.threads || !platform.isolated || options.backend === "webgpu") return 1;
  const wanted = options.threads ?? platform.cores;
  await helpers.start(Math.max(0, wanted - 1), started, platform.startWorker);
  return helpers.count + 1;
}

/** A source that can be given up while the module still holds it: bytes in memory are free then. */
function releasable(source: Source): Source & { close(): Promise<void> } {
  let inner: Source | undefined = source;
  return {
    size: source.size,
    read(offset, length) {
      if (!inner) throw new Error("the model file was closed");
      return inner.read(offset, length);
    },
    async close() {
      const given = inner;
      inner = undefined;
      await given?.close?.();
    },
  };
}

/** The options that are the module's business. */
function engineOptions({ cache: _, folder: __, ...options }: WireOptions): Omit<LoadOptions, "modelName"> {
  return options;
}

async function load({ glue }: Started, options: LoadOptions, host: Host): Promise<WasmEngine> {
  try {
    return await glue.Engine.load(options, host);
  } catch (thrown) {
    if (thrown instanceof RepriseError || !(thrown instanceof Error)) throw thrown;
    const outOfMemory = thrown instanceof RangeError && /memory|alloc|size/i.test(thrown.message);
    // A module that panics or cannot allocate traps, and takes nothing with it but itself.
    if (!outOfMemory && !(thrown instanceof WebAssembly.RuntimeError)) throw thrown;
    throw failure(
      "out_of_memory",
      `The model could not be loaded, most likely because memory is short: ${messageOf(thrown)}. Use a smaller model, a ` +
        "smaller `context`, or fewer `slots`.",
      thrown,
    );
  }
}

/** Passes on at most one report in a tenth of a second for each phase, and the last one always. */
function throttled(report: (progress: Progress) => void): (progress: Progress) => void {
  let [phase, last] = ["", 0];
  return (progress) => {
    const now = performance.now();
    if (progress.phase === phase && progress.loaded < progress.total && now - last < 100) return;
    [phase, last] = [progress.phase, now];
    report(progress);
  };
}
