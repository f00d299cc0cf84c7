// The page's state: everything the views draw. Actions change it, views watch it.
import type { CachedModel, ImageInfo, Progress } from "reprise";
import type { Host, Place } from "./hosts/host";
import type { Chats } from "./chats";
import type { Pace } from "./pace";
import { loadChats, loadChoices } from "./remember";
import { Signal } from "./signal";
import type { SlotView } from "./slotview";
import type { Trouble } from "./trouble";

/** How far the way to a model that answers is. */
export type Phase =
  | { kind: "choosing"; trouble?: Trouble }
  | { kind: "waiting"; what: string }
  | { kind: "loading"; name: string; progress?: Progress; pace?: Pace }
  | { kind: "ready"; host: Host };

/** An answer under way. */
export interface Running {
  stop(): void;
  /** Prompt tokens: all, from the cache, done (with the cached ones). */
  reading?: { total: number; cached: number; done: number };
  /** Text has begun to come. */
  writing: boolean;
}

/** Something to tell that stands above the conversation until it is closed. */
export interface Notice {
  kind: "error" | "note";
  title: string;
  text: string;
  detail?: string;
  action?: { label: string; run(): void };
}

/** Tokens per second, as last measured. */
export interface Speeds {
  reading?: number;
  writing?: number;
}

export interface StorageState {
  /** Bytes; undefined where the browser does not tell. */
  used?: number;
  quota?: number;
  models: CachedModel[];
  images: ImageInfo[];
  /** Why slots are not kept, if they are not. */
  off?: string;
}

export interface ModelOnServer {
  url: string;
  name: string;
  size: number;
}

export const state = {
  place: new Signal<Place>("browser"),
  /** Whether the page came from a server that can answer. */
  ownServer: new Signal(false),
  phase: new Signal<Phase>({ kind: "waiting", what: "Starting" }),
  chats: new Signal<Chats>(loadChats()),
  running: new Signal<Running | undefined>(undefined),
  notice: new Signal<Notice | undefined>(undefined),
  slots: new Signal<SlotView[]>([]),
  /** The slot that the next message asks for; -1 lets the engine choose. */
  pinned: new Signal(-1),
  speeds: new Signal<Speeds>({}),
  storage: new Signal<StorageState>({ models: [], images: [] }),
  /** The model file beside the page, once it was looked for. */
  bundled: new Signal<ModelOnServer | undefined>(undefined),
  online: new Signal(navigator.onLine),
  /** What a screen reader is to say. */
  said: new Signal(""),
  /** Whether the panel is shown: always on wide screens unless closed, on demand on narrow ones. */
  panel: new Signal(matchMedia("(min-width: 60rem)").matches && loadChoices().panelClosed !== true),
};

/** The host, when one is ready. */
export function host(): Host | undefined {
  const { value } = state.phase;
  return value.kind === "ready" ? value.host : undefined;
}
