// The messages between the page and the worker. Every exchange has a port of its own, so nothing needs an id.

import type { ErrorParts } from "./errors.js";
import type { EngineEvent, EngineOptions, Progress } from "./types.js";

/** A model as it goes to the worker: URLs absolute, bytes as they are. */
export type WireModel =
  | { kind: "url"; url: string; sha256?: string; size?: number; headers?: Record<string, string> }
  | { kind: "path"; path: string }
  | { kind: "blob"; blob: Blob; name: string }
  | { kind: "bytes"; bytes: Uint8Array; name: string };

/** Where the parts of the package are served. */
export interface Assets {
  /** The glue and the module, for engines with threads and relaxed SIMD and for all others. */
  threads: ModuleUrls;
  simd: ModuleUrls;
}

export interface ModuleUrls {
  glue: string;
  wasm: string;
}

/** Options that mean something to the worker: everything but functions, signals and the model itself. */
export type WireOptions = Omit<EngineOptions, "model" | "assets" | "signal" | "onProgress" | "onEvent">;

/** The first message to a worker: what it is to be. */
export type Role =
  | { role: "engine"; port: MessagePort; model: WireModel; options: WireOptions; assets: Assets }
  | { role: "helper"; port: MessagePort; module: WebAssembly.Module; memory: WebAssembly.Memory; glue: string };

/** Page to worker. */
export type Command =
  | { kind: "fetch"; request: WireRequest; port: MessagePort }
  | { kind: "call"; name: CallName; port: MessagePort }
  /** Ends a start that is under way. */
  | { kind: "cancel" };

export type CallName = "info" | "persist" | "images" | "loseDevice" | "dispose";

/** Worker to page. */
export type Notice =
  | { kind: "progress"; progress: Progress }
  | { kind: "event"; event: EngineEvent }
  | { kind: "ready" }
  | { kind: "failed"; error: ErrorParts };

export interface WireRequest {
  method: string;
  /** Path and query, or an absolute URL. */
  url: string;
  headers: [string, string][];
  body?: Uint8Array;
}

/** Worker to page, on the port of a request: a head, then chunks, each asked for by a `pull`. */
export type Reply =
  | { kind: "head"; status: number; statusText: string; headers: [string, string][]; body: boolean }
  | { kind: "chunk"; bytes: Uint8Array }
  | { kind: "end" }
  | { kind: "error"; error: ErrorParts };

/** Page to worker, on the port of a request. */
export type Demand = { kind: "pull" } | { kind: "abort" };

/** Worker to page, on the port of a call. */
export type Answer = { kind: "value"; value: unknown } | { kind: "error"; error: ErrorParts };
