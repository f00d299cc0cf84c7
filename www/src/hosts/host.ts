// A place where a model runs and answers: an engine in this browser, or a server. Both speak through the package's client.
import type { Client, ImageInfo } from "reprise";

export type Place = "browser" | "server";

/** A model that is ready to answer. */
export interface Host {
  readonly place: Place;
  readonly client: Client;
  /** Name of the model, for people. */
  readonly model: string;
  /** Tokens of one slot. */
  readonly context: number;
  /** What computes, and why. */
  readonly runtime: Runtime;
  /** Whether slots can be listed. */
  readonly listsSlots: boolean;
  /** Slot images that are kept; only an engine in this browser tells. */
  images?(): Promise<ImageInfo[]>;
  close(): Promise<void>;
}

export interface Runtime {
  /** `WebGPU`, `WebAssembly`, `Native`. */
  name: string;
  /** Threads, vectors or adapter, where that is known. */
  detail?: string;
  reason: string;
}
