// An answer that is being generated: the request's fields, its events as chunks, and its end.

import { asyncDispose } from "./dispose.js";
import { failure, fromBody, fromResponse, RepriseError } from "./errors.js";
import { eventData } from "./sse.js";
import type { Chunk, Fetch, Generated, GenerationOptions, PromptProgress, Timings, Usage } from "./types.js";

/** Names of the options on the wire. */
const FIELDS = {
  slot: "id_slot",
  cachePrompt: "cache_prompt",
  maxTokens: "max_tokens",
  temperature: "temperature",
  topK: "top_k",
  topP: "top_p",
  minP: "min_p",
  seed: "seed",
  stop: "stop",
  grammar: "grammar",
  jsonSchema: "json_schema",
  progress: "return_progress",
} as const satisfies Partial<Record<keyof GenerationOptions, string>>;

/** The body of a streaming request. */
export function requestFields(options: GenerationOptions, own: Record<string, unknown>): Record<string, unknown> {
  const fields: Record<string, unknown> = { ...own, stream: true };
  for (const [option, field] of Object.entries(FIELDS)) {
    const value = options[option as keyof typeof FIELDS];
    if (value !== undefined) fields[field] = value;
  }
  return { ...fields, ...options.fields };
}

/**
 * An answer under way. Iterate over it, or ask for its `result()`; each starts the request, once. Leaving the loop early,
 * the `signal`, or leaving an `await using` block cancels it, and the slot keeps what was computed.
 */
export class Generation implements AsyncIterable<Chunk> {
  readonly #chunks: AsyncGenerator<Chunk, void, undefined>;
  readonly #abort = new AbortController();

  constructor(fetch: Fetch, path: string, body: Record<string, unknown>, signal: AbortSignal | undefined) {
    this.#chunks = run(fetch, path, body, followed(this.#abort, signal));
  }

  [Symbol.asyncIterator](): AsyncIterator<Chunk, void, undefined> {
    return this.#chunks;
  }

  /** Runs it to its end and gives the whole answer. */
  async result(): Promise<Generated> {
    const whole: Generated = { text: "", finishReason: "" };
    for await (const { text, finishReason, usage, timings } of this) {
      whole.text += text;
      if (finishReason !== undefined) whole.finishReason = finishReason;
      if (usage !== undefined) whole.usage = usage;
      if (timings !== undefined) whole.timings = timings;
    }
    return whole;
  }

  /** Ends it now. A loop over it ends with an `AbortError`. */
  cancel(): void {
    this.#abort.abort();
  }

  async [asyncDispose](): Promise<void> {
    this.cancel();
  }
}

/** The controller's signal, aborted with the given one too. */
function followed(abort: AbortController, signal: AbortSignal | undefined): AbortSignal {
  const follow = (): void => abort.abort(signal?.reason);
  if (signal?.aborted) follow();
  // The listener goes when either is aborted; a signal that outlives many requests keeps one small function for each.
  else signal?.addEventListener("abort", follow, { once: true, signal: abort.signal });
  return abort.signal;
}

async function* run(
  fetch: Fetch,
  path: string,
  fields: Record<string, unknown>,
  signal: AbortSignal,
): AsyncGenerator<Chunk, void, undefined> {
  signal.throwIfAborted();
  const headers = { "content-type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(fields), signal });
  if (!response.ok) throw await fromResponse(response);
  if (response.body === null) throw failure("broken_stream", "The answer has no body.");
  let ended = false;
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const raw = parse(data);
    const error = fromBody(raw, response.status);
    if (error) throw error;
    const chunk = toChunk(raw);
    ended ||= chunk.finishReason !== undefined;
    if (speaks(chunk)) yield chunk;
  }
  // llama-server's own endpoint ends without [DONE].
  if (!ended) throw failure("broken_stream", "The answer broke off before its end.");
}

function parse(data: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(data);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Reported below, with what was sent.
  }
  throw new RepriseError(`The answer holds what is no event: ${data.slice(0, 200)}`, {
    status: 502,
    type: "broken_stream",
  });
}

const speaks = ({ text, finishReason, usage, timings, progress }: Chunk): boolean =>
  text !== "" || [finishReason, usage, timings, progress].some((part) => part !== undefined);

/** What the events of the three endpoint families may hold, as far as a chunk shows it. */
interface Event {
  choices?: { delta?: { content?: string | null }; text?: string; finish_reason?: string | null }[];
  content?: string;
  stop?: boolean;
  stop_type?: string;
  usage?: Usage;
  timings?: Timings;
  prompt_progress?: PromptProgress;
}

function toChunk(raw: Record<string, unknown>): Chunk {
  const event = raw as Event;
  const choice = event.choices?.[0];
  const chunk: Chunk = { text: choice?.delta?.content ?? choice?.text ?? event.content ?? "", raw };
  const reason = choice?.finish_reason ?? (event.stop === true ? event.stop_type : undefined);
  if (reason !== undefined && reason !== null) chunk.finishReason = reason;
  if (event.usage) chunk.usage = event.usage;
  if (event.timings) chunk.timings = event.timings;
  if (event.prompt_progress) chunk.progress = event.prompt_progress;
  return chunk;
}
