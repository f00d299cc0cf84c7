// Errors in plain sentences: what happened, and what to do about it.
import { RepriseError } from "reprise";

export interface Trouble {
  title: string;
  /** What to do, as a sentence. */
  advice: string;
  /** The error's own words, for whoever wants them. */
  detail: string;
}

export { RepriseError };

/** What the page was doing when it went wrong. */
export type During = "model" | "chat" | "slot" | "server";

type Words = readonly [title: string, advice: string];

const BY_TYPE: Record<string, Words> = {
  model_not_found: ["There is no model at this address.", "Check the address for a typing error, or choose another model."],
  model_too_large: [
    "This model is too large for the memory that a page may use.",
    "Choose a smaller model or a stronger quantisation (Q4 instead of Q8), or run it on a server.",
  ],
  context_too_large_error: [
    "The model fits into the memory, but not with its context.",
    "Close other tabs, choose a smaller model, or run it on a server.",
  ],
  source_error: ["The model file cannot be read any more.", "Choose it again; perhaps it was moved or changed."],
  size_mismatch: [
    "The file that arrived has not the size that was announced.",
    "Load the model again; if it happens again, the file on the server is damaged.",
  ],
  checksum_mismatch: [
    "The file that arrived is not the one that was expected: its checksum differs.",
    "Load the model again; if it happens again, do not trust that address.",
  ],
  storage_full: [
    "There is no room left in this browser's storage.",
    "Delete a model or a saved slot under Storage, or free space on the disk, and try again.",
  ],
  offline: ["There is no connection.", "Go online and try again. Models that are already here work without a connection."],
  network_error: [
    "The model could not be downloaded.",
    "Check the address. Its server must allow other sites to read the file (CORS). What has arrived is kept.",
  ],
  no_webgpu: [
    "This browser gives the page no GPU.",
    "Use the WebAssembly backend, or a current Chrome, Edge, Firefox or Safari with WebGPU switched on.",
  ],
  not_supported: [
    "This browser cannot run the engine.",
    "Use a current Chrome, Edge, Firefox or Safari, or run the model on a server.",
  ],
  not_isolated: [
    "The page may not use threads here.",
    "It works with one thread. For more, its server must send the headers COOP and COEP.",
  ],
  out_of_memory: [
    "The memory is not enough for this model and its context.",
    "Close other tabs, choose a smaller model or a shorter context, or run it on a server.",
  ],
  worker_error: ["The engine stopped unexpectedly.", "Start it again. The conversation is kept."],
  disposed: ["The engine was stopped.", "Start it again. The conversation is kept."],
  broken_stream: ["The answer broke off.", "Send the message again; what was already processed is in the cache."],
  exceed_context_size_error: [
    "The conversation no longer fits into the context.",
    "Start a new chat, or run the model with a longer context.",
  ],
  authentication_error: ["The server asks for an API key.", "Enter it below the address."],
  unavailable_error: ["The model is not ready.", "Wait a moment and try again."],
};

/** Puts an error into words. */
export function explain(error: unknown, during: During): Trouble {
  const detail = error instanceof Error ? error.message : String(error);
  const [title, advice] = words(error, detail, during);
  return { title, advice, detail };
}

function words(error: unknown, detail: string, during: During): Words {
  if (error instanceof RepriseError) {
    if (error.type === "network_error" && during !== "model") return unreachable(during);
    // Without a connection the engine's own files may be missing, if this is the first visit.
    if ((error.type === "worker_error" || error.type === "network_error") && !navigator.onLine) return unreachable(during);
    if (INVALID.has(error.type)) return invalidModel(detail);
    const known = BY_TYPE[ENGINE[error.type] ?? error.type];
    if (known !== undefined) return known;
    if (error.status === 501 && during === "slot") {
      return ["This server keeps no slot files.", "Start it with --slot-save-path and a folder."];
    }
    if (error.status === 403) return ["The server refuses this page.", "Start it with --cors-origins or an API key."];
    if (error.status === 404 && during === "slot") return ["This server cannot export or import slots.", "Use save and restore."];
    if (during === "slot") return [sentence(detail), "The slot keeps what it had."];
  }
  if (error instanceof DOMException && error.name === "QuotaExceededError") return BY_TYPE["storage_full"] ?? GENERAL[during];
  if (error instanceof TypeError && /fetch|network|load failed/i.test(detail)) return unreachable(during);
  return GENERAL[during];
}

const INVALID = new Set(["invalid_model", "invalid_model_error"]);

/** The engine's own names for what the library has names for too. */
const ENGINE: Record<string, string> = {
  model_too_large_error: "model_too_large",
  gpu_error: "no_webgpu",
  storage_error: "storage_full",
};

const GENERAL: Record<During, Words> = {
  model: ["The model could not be started.", "Try again, or choose another model."],
  chat: ["The answer failed.", "Send the message again."],
  slot: ["That did not work.", "The slot keeps what it had."],
  server: ["No Reprise server answers at this address.", "Check that it runs, or run a model in this browser."],
};

function invalidModel(detail: string): Words {
  if (/not a gguf|gguf version/i.test(detail)) return ["This is not a GGUF file that can be read.", "Choose a file whose name ends in .gguf."];
  if (/truncated|cut (off|short)|damaged|incomplete|empty file/i.test(detail)) {
    return ["The model file is cut off or damaged.", "Download it again."];
  }
  if (/architecture/i.test(detail)) {
    return ["This kind of model is not supported.", "Llama, SmolLM, Mistral, Qwen 2, Qwen 3 and Gemma 3 are."];
  }
  if (/has type|quanti[sz]/i.test(detail)) {
    return ["The model uses a quantisation that is not supported.", "Choose a file in Q4_0, Q4_K_M, Q5_K_M, Q6_K, Q8_0 or F16."];
  }
  return ["This file cannot be used as a model.", "Choose a complete GGUF file of a Llama, Qwen 2, Qwen 3 or Gemma 3 model."];
}

function unreachable(during: During): Words {
  if (!navigator.onLine) {
    return ["There is no connection.", "Go online and try again. A model in this browser works without one."];
  }
  if (during === "server" || during === "model") return GENERAL[during];
  return ["The server does not answer.", "Check that it still runs, then try again."];
}

function sentence(text: string): string {
  const trimmed = text.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
