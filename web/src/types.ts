// The public types: what an engine is created with, what it reports, and what the typed helpers take and give.

/** Where a model comes from. A relative URL is relative to the page; in Node a string without a scheme is a path. */
export type Model = string | URL | Blob | ArrayBuffer | Uint8Array | RemoteModel;

/** A model to be fetched, with what is known of it. */
export interface RemoteModel {
  url: string | URL;
  /** Lower-case hexadecimal SHA-256 of the file. A file with another one is never used. */
  sha256?: string;
  /** Size in bytes. */
  size?: number;
  /** Headers for the download, for instance a token of a private repository. */
  headers?: Record<string, string>;
}

export type Backend = "auto" | "webgpu" | "wasm";

/** What an engine is created with. Options without a comment have the meaning of llama-server's flag of that name. */
export interface EngineOptions {
  model: Model;
  /** `auto` (the default) measures both for a moment and takes the faster one. */
  backend?: Backend;
  /** Threads of the wasm backend; more than one needs a cross-origin isolated page. */
  threads?: number;
  /** Name of the model in answers; by default its file name. */
  modelName?: string;
  aliases?: string[];
  /** Number of slots; -1 takes four that share one pool. */
  slots?: number;
  /** Tokens of KV over all slots; 0 takes the model's training context. */
  context?: number;
  unified?: boolean;
  contextPerSlot?: number;
  batch?: number;
  /** Tokens of a step, 64 by default: a request can be cancelled between two steps. */
  microBatch?: number;
  contextShift?: boolean;
  /** Speculative decoding: `ngram-simple` drafts what followed the same tokens before; `none` by default. */
  specType?: "none" | "ngram-simple" | "ngram";
  specNgramSimpleSizeN?: number;
  specNgramSimpleSizeM?: number;
  specNgramSimpleMinHits?: number;
  keep?: number;
  predict?: number;
  similarity?: number;
  /** MiB of prompts that left their slot; by default 512, with WebGPU 128. */
  cacheRam?: number;
  /** MiB of the prompt cache that outlive the page, in IndexedDB; -1 without a limit, 0 none. By default 256 where slots are stored by themselves. */
  cacheDisk?: number;
  /** Whether requests with different API keys share the prompt cache; off by default. */
  cacheShared?: boolean;
  cacheIdleSlots?: boolean;
  cachePrompt?: boolean;
  cacheReuse?: number;
  /** Whether slots can be saved and restored by name; on by default. */
  slotFiles?: boolean;
  apiKeys?: string[];
  apiPrefix?: string;
  corsOrigins?: string;
  corsCredentials?: boolean;
  metrics?: boolean;
  props?: boolean;
  slotsEndpoint?: boolean;
  slotsDebug?: boolean;
  embeddings?: "none" | "mean" | "cls" | "last" | null;
  chatTemplate?: string;
  /** Fields that every request has unless it says otherwise, under their wire names: `{temperature: 0}`. */
  defaults?: Record<string, unknown>;
  ropeFreqBase?: number;
  ropeFreqScale?: number;
  ropeScaling?: string;
  /** Seconds. */
  pingInterval?: number;
  special?: boolean;
  /** Bytes of a request body. */
  maxBody?: number;
  /** Bytes that model and KV may take. */
  maxMemory?: number;
  /** Slot images: written by themselves when a slot goes idle (on in a browser, off in Node), and under which name. */
  persist?: { automatic?: boolean; namespace?: string };
  /** Restricts the GPU kernels; for tests. */
  gpu?: { subgroups?: boolean; dot4?: boolean; f16?: boolean; rowTile?: 1 | 2 | 4 | 8 };

  /** Whether the model file is kept for the next time; on by default for URLs, off for files and bytes. */
  cache?: boolean;
  /**
   * Where the package's `dist` folder is served, for bundlers that do not follow `new URL(..., import.meta.url)`
   * (esbuild) and for a copy on another origin.
   */
  assets?: string | URL;
  /** Node: folder of models and slot images; by default `reprise/node` in the user's cache folder. */
  folder?: string;
  /** Cancels the start. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** Like {@link Engine.subscribe}, from the first moment of the start on. */
  onEvent?: (event: EngineEvent) => void;
}

/** How far a start is. */
export interface Progress {
  /** The download; reading back what an earlier download left, to check it; handing the weights to the backend. */
  phase: "download" | "verify" | "load";
  /** Bytes. */
  loaded: number;
  /** Bytes; while the size is not known, the same as `loaded`. */
  total: number;
  /** Name of the file. */
  file: string;
}

/** What an engine tells its subscribers. */
export type EngineEvent =
  /** Which arithmetic was taken, its full name (threads, vectors, adapter), and why. */
  | { type: "backend"; backend: "webgpu" | "wasm"; name: string; reason: string }
  /** Whether slots are stored by themselves, and if not, why. */
  | { type: "persistence"; enabled: boolean; reason: string }
  /** Slots that came back at the start. */
  | { type: "restored"; slots: MovedSlot[] }
  /** Slots whose images were written. */
  | { type: "saved"; slots: MovedSlot[] }
  /** The GPU is gone; requests are answered with 503 until it is back. */
  | { type: "device-lost"; message: string }
  /** The model is loaded again, and these slots with it. */
  | { type: "device-restored"; slots: MovedSlot[] }
  /** The model could not be loaded again: every request is answered with 503 from now on. */
  | { type: "device-gone"; message: string }
  | { type: "log"; level: string; line: string }
  /** The worker is gone; every request fails from now on. */
  | { type: "failed"; message: string };

/** A slot that went to its image or came from it. */
export interface MovedSlot {
  slot: number;
  tokens: number;
  bytes: number;
  /** Milliseconds. */
  ms: number;
}

/** What runs. */
export interface EngineInfo {
  backend: "webgpu" | "wasm";
  /** With its threads, vectors or adapter. */
  backendName: string;
  /** Why this backend. */
  backendReason: string;
  model: {
    name: string;
    architecture: string;
    fileType: string;
    parameters: number;
    bytes: number;
    /** Tokens that the model was trained for. */
    trainContext: number;
    /** Slot images of another fingerprint do not fit. */
    fingerprint: string;
  };
  slots: number;
  /** Tokens of one slot. */
  context: number;
  /** Number of tokens that the model knows. */
  vocab: number;
  /** What was done on the GPU since it was opened. */
  counters?: Record<string, number>;
}

/** A slot image in the store. In Node the numbers are null: files give only their names. */
export interface ImageInfo {
  name: string;
  bytes: number | null;
  tokens: number | null;
  /** Written by itself, not by `slots.save`. */
  automatic: boolean;
  /** Milliseconds since 1970. */
  created: number | null;
}

/** A model file that was kept. */
export interface CachedModel {
  /** What `createEngine({model})` and `deleteModel` take. */
  url: string;
  name: string;
  /** Size of the whole file; null while it is not known. */
  size: number | null;
  /** Bytes that are there. */
  loaded: number;
  /** Whether the file is whole and verified. */
  complete: boolean;
  sha256: string | null;
  /** Milliseconds since 1970. */
  created: number;
}

/** `fetch`, as both an engine and a server answer it. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

export interface ChatMessage {
  role: string;
  content?: string | { type: string; text?: string; [field: string]: unknown }[] | null;
  [field: string]: unknown;
}

/** What `chat` and `complete` share. Names are the wire's in camel case. */
export interface GenerationOptions {
  /** The slot to use; any by default. */
  slot?: number;
  cachePrompt?: boolean;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: number;
  stop?: string | string[];
  grammar?: string;
  jsonSchema?: object;
  /** Chunks that tell how far the prompt is. */
  progress?: boolean;
  /** Further fields under their wire names; they win. */
  fields?: Record<string, unknown>;
  signal?: AbortSignal;
}

export interface ChatOptions extends GenerationOptions {
  messages: ChatMessage[];
  model?: string;
}

export interface CompleteOptions extends GenerationOptions {
  /** Text, tokens, or a mix of both. */
  prompt: string | (string | number)[];
}

/** A part of an answer. */
export interface Chunk {
  /** What to append; empty in chunks that only report. */
  text: string;
  /** Set in the chunk that ends the text: `stop`, `length`, and for `complete` llama-server's `stop_type`. */
  finishReason?: string;
  usage?: Usage;
  timings?: Timings;
  progress?: PromptProgress;
  /** The event as it was sent. */
  raw: Record<string, unknown>;
}

/** A whole answer. */
export interface Generated {
  text: string;
  finishReason: string;
  usage?: Usage;
  timings?: Timings;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens: number };
}

/** Tokens and milliseconds; `cache_n` came from the cache, `prompt_n` were processed. */
export interface Timings {
  cache_n: number;
  prompt_n: number;
  prompt_ms: number;
  prompt_per_token_ms: number;
  prompt_per_second: number;
  predicted_n: number;
  predicted_ms: number;
  predicted_per_token_ms: number;
  predicted_per_second: number;
}

export interface PromptProgress {
  total: number;
  cache: number;
  processed: number;
  time_ms: number;
}

/** A slot as `GET /slots` gives it. */
export interface Slot {
  id: number;
  n_ctx: number;
  is_processing: boolean;
  n_prompt_tokens?: number;
  n_prompt_tokens_processed?: number;
  n_prompt_tokens_cache?: number;
  placement?: Record<string, unknown>;
  [field: string]: unknown;
}

export interface SavedSlot {
  id_slot: number;
  filename: string;
  n_saved: number;
  n_written: number;
  timings: { save_ms: number };
}

/** A slot's state as a file. */
export interface SlotImage extends File {
  /** What names this state: `export(slot, { ifNoneMatch: etag })` gives nothing while the slot has it. Older servers send none. */
  readonly etag: string | undefined;
}

export interface RestoredFile {
  id_slot: number;
  filename?: string;
  n_restored: number;
  n_read: number;
  timings: { restore_ms: number };
}
