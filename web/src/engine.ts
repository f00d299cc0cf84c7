// The engine as the page sees it: a client whose `fetch` goes to the worker, with its life and its events.

import { Client } from "./client.js";
import { asyncDispose, Subscription } from "./dispose.js";
import { disposed, failure, fromParts } from "./errors.js";
import type { Assets, Command, Notice, Role, WireModel, WireOptions } from "./protocol.js";
import { Transport } from "./transport.js";
import type { EngineEvent, EngineInfo, EngineOptions, ImageInfo } from "./types.js";

/** A started worker. */
export interface EngineWorker {
  postMessage(message: Role, transfer: Transferable[]): void;
  terminate(): unknown;
  /** Called once when the worker cannot be started or dies. */
  onfailure: ((message: string) => void) | undefined;
  /** Node: whether the worker keeps the process alive by itself. */
  hold?(alive: boolean): void;
}

/** Events that describe a state: a later subscriber is told them first. */
const STATES: ReadonlySet<EngineEvent["type"]> = new Set([
  "backend",
  "persistence",
  "restored",
  "device-gone",
  "failed",
]);

/**
 * A language model in a worker. Its `fetch` answers llama-server's API; the other methods of the {@link Client} are thin over
 * it. `dispose()` it, or declare it with `await using`.
 */
export class Engine extends Client {
  readonly #transport: Transport;
  readonly #worker: EngineWorker;
  readonly #events: Events;
  readonly #closed: () => void;
  #disposing: Promise<void> | undefined;

  /** Use `createEngine`. */
  constructor(worker: EngineWorker, transport: Transport, events: Events, closed: () => void) {
    super(transport.fetch);
    [this.#worker, this.#transport, this.#events, this.#closed] = [worker, transport, events, closed];
  }

  /** What runs, now. */
  info(): Promise<EngineInfo> {
    return this.#transport.call("info");
  }

  /** Saves every idle slot that changed. Happens by itself when a slot goes idle and when the page is hidden. */
  persist(): Promise<void> {
    return this.#transport.call("persist");
  }

  /** The slot images in the store. */
  images(): Promise<ImageInfo[]> {
    return this.#transport.call("images");
  }

  /** Gives the GPU device up, as a driver may at any time; for tests of the recovery. */
  loseDevice(): Promise<void> {
    return this.#transport.call("loseDevice");
  }

  /**
   * Tells of events: first those that describe the present state (backend, persistence, restored slots), then all others as
   * they come.
   */
  subscribe(listener: (event: EngineEvent) => void): Subscription {
    return this.#events.subscribe(listener);
  }

  /** Ends what is under way, saves the slots, and frees everything. */
  dispose(): Promise<void> {
    this.#disposing ??= this.#dispose();
    return this.#disposing;
  }

  async #dispose(): Promise<void> {
    this.#closed();
    const alive = !this.#transport.ended;
    this.#transport.end(disposed());
    try {
      if (alive) await this.#transport.call("dispose", true);
    } finally {
      // That it ends now is no failure.
      this.#worker.onfailure = undefined;
      await this.#worker.terminate();
    }
  }

  async [asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/** Who listens, and what a late listener has to know. */
export class Events {
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #states = new Map<EngineEvent["type"], EngineEvent>();

  emit(event: EngineEvent): void {
    if (STATES.has(event.type)) this.#states.set(event.type, event);
    for (const listener of [...this.#listeners]) tell(listener, event);
  }

  subscribe(listener: (event: EngineEvent) => void): Subscription {
    // A function of its own, so that one listener can be there twice.
    const own = (event: EngineEvent): void => listener(event);
    this.#listeners.add(own);
    for (const event of this.#states.values()) tell(own, event);
    return new Subscription(() => this.#listeners.delete(own));
  }
}

/** A listener that throws is its own page's problem: it is reported, and the others are told all the same. */
function tell(listener: (event: EngineEvent) => void, event: EngineEvent): void {
  try {
    listener(event);
  } catch (thrown) {
    queueMicrotask(() => {
      throw thrown;
    });
  }
}

/** Starts an engine in a worker. */
export async function startEngine(
  worker: EngineWorker,
  model: WireModel,
  options: EngineOptions,
  assets: Assets,
  attach: (engine: Engine) => () => void = () => () => undefined,
): Promise<Engine> {
  const { port1: port, port2 } = new MessageChannel();
  const transport = new Transport(port);
  const events = new Events();
  if (options.onEvent) events.subscribe(options.onEvent);
  const { signal, onProgress } = options;
  const started = new AbortController();
  let detach = (): void => undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      signal?.throwIfAborted();
      const cancel = (): void => {
        port.postMessage({ kind: "cancel" } satisfies Command);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", cancel, { signal: started.signal });
      worker.onfailure = (message) => {
        const error = failure("worker_error", message);
        transport.end(error);
        events.emit({ type: "failed", message });
        reject(error);
      };
      port.onmessage = ({ data }: MessageEvent<Notice>) => {
        if (data.kind === "progress") onProgress?.(data.progress);
        else if (data.kind === "event") events.emit(data.event);
        else if (data.kind === "ready") resolve();
        else reject(fromParts(data.error));
      };
      worker.postMessage({ role: "engine", port: port2, model, options: plain(options), assets }, [port2]);
    });
  } catch (thrown) {
    worker.onfailure = undefined;
    worker.terminate();
    port.close();
    throw thrown;
  } finally {
    started.abort();
  }
  // In Node a port that is listened to keeps the process alive; the ports of requests still do.
  (port as { unref?(): void }).unref?.();
  const engine = new Engine(worker, transport, events, () => detach());
  detach = attach(engine);
  return engine;
}

/** The options that can be posted, without those that are there but undefined. */
function plain({
  model: _,
  assets: __,
  signal: ___,
  onProgress: ____,
  onEvent: _____,
  ...options
}: EngineOptions): WireOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
