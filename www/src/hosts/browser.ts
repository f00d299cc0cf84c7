// A host that is an engine in this browser.
import { createEngine, type Backend, type EngineEvent, type Model, type Progress } from "reprise";
import { modelTitle } from "../format";
import type { Host } from "./host";

/** Room for two conversations at a time. */
const SLOTS = 2;

export interface BrowserModel {
  source: Model;
  /** Under which address the cache of models lists it. */
  url: string;
  name: string;
  /** Keep a file that was dropped, so that it is there after a reload. */
  keep: boolean;
}

export interface BrowserSettings {
  backend: Backend;
  /** Tokens of one slot. */
  context: number;
}

/** Small enough for a phone. */
export const DEFAULTS: BrowserSettings = { backend: "auto", context: 2048 };

export interface Listener {
  progress(progress: Progress): void;
  event(event: EngineEvent): void;
}

/** Downloads what is missing, loads the model, brings back its slots. */
export async function openBrowser(
  model: BrowserModel,
  settings: BrowserSettings,
  listener: Listener,
  signal: AbortSignal,
): Promise<Host> {
  const engine = await createEngine({
    model: model.source,
    modelName: model.name,
    backend: settings.backend,
    slots: SLOTS,
    context: SLOTS * settings.context,
    signal,
    ...(model.keep ? { cache: true } : {}),
    onProgress: (progress) => listener.progress(progress),
    onEvent: (event) => listener.event(event),
  });
  const info = await engine.info();
  return {
    place: "browser",
    client: engine,
    model: modelTitle(model.name),
    context: info.context,
    runtime: {
      name: info.backend === "webgpu" ? "WebGPU" : "WebAssembly",
      detail: info.backendName,
      reason: info.backendReason,
    },
    listsSlots: true,
    images: () => engine.images(),
    close: () => engine.dispose(),
  };
}
