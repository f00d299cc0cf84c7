// The typed helpers, thin over any `fetch`: an engine's or a server's.

import { fromResponse, failure, messageOf } from "./errors.js";
import { Generation, requestFields } from "./generation.js";
import { Session, type SessionOptions } from "./session.js";
import { Slots } from "./slots.js";
import type { ChatMessage, ChatOptions, CompleteOptions, Fetch } from "./types.js";

/** Asks for a path and reads the answer's JSON; a failure status becomes a `RepriseError`. */
export interface Call {
  <T>(path: string, init?: RequestInit): Promise<T>;
  /** The same, for the response itself. */
  response(path: string, init?: RequestInit): Promise<Response>;
}

/** The API of an engine or a server. */
export class Client {
  /** Answers like the page's own `fetch`; may be passed on by itself. */
  readonly fetch: Fetch;
  readonly slots: Slots;
  readonly #call: Call;

  constructor(fetch: Fetch) {
    this.fetch = fetch;
    this.#call = caller(fetch);
    this.slots = new Slots(this.#call);
  }

  /** `POST /v1/chat/completions`, streamed. */
  chat(options: ChatOptions): Generation {
    const { messages, model, signal } = options;
    const own: Record<string, unknown> = { messages, stream_options: { include_usage: true } };
    if (model !== undefined) own["model"] = model;
    return new Generation(this.fetch, "/v1/chat/completions", requestFields(options, own), signal);
  }

  /** `POST /completion`, streamed: a prompt without a chat template. */
  complete(options: CompleteOptions): Generation {
    const { prompt, signal } = options;
    return new Generation(this.fetch, "/completion", requestFields(options, { prompt }), signal);
  }

  /** A conversation that keeps its messages. */
  session(options: SessionOptions = {}): Session {
    return new Session(this, options);
  }

  async tokenize(content: string, fields: Record<string, unknown> = {}): Promise<number[]> {
    return (await this.#post<{ tokens: number[] }>("/tokenize", { content, ...fields })).tokens;
  }

  async detokenize(tokens: number[]): Promise<string> {
    return (await this.#post<{ content: string }>("/detokenize", { tokens })).content;
  }

  /** The prompt that the model's chat template makes of messages. */
  async applyTemplate(messages: ChatMessage[], fields: Record<string, unknown> = {}): Promise<string> {
    return (await this.#post<{ prompt: string }>("/apply-template", { messages, ...fields })).prompt;
  }

  /** One vector for each text; the engine needs the option `embeddings`. */
  async embed(input: string | string[]): Promise<number[][]> {
    const { data } = await this.#post<{ data: { embedding: number[] }[] }>("/v1/embeddings", { input });
    return data.map(({ embedding }) => embedding);
  }

  health(): Promise<{ status: string }> {
    return this.#call("/health");
  }

  props(): Promise<Record<string, unknown>> {
    return this.#call("/props");
  }

  async models(): Promise<{ id: string; [field: string]: unknown }[]> {
    return (await this.#call<{ data: { id: string; [field: string]: unknown }[] }>("/v1/models")).data;
  }

  #post<T>(path: string, body: Record<string, unknown>): Promise<T> {
    return this.#call(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  }
}

function caller(fetch: Fetch): Call {
  const response = async (path: string, init?: RequestInit): Promise<Response> => {
    const answer = await fetch(path, init);
    // Only who has asked whether something changed is told that it has not.
    if (!answer.ok && answer.status !== 304) throw await fromResponse(answer);
    return answer;
  };
  const call = async <T>(path: string, init?: RequestInit): Promise<T> => {
    const answer = await response(path, init);
    try {
      return (await answer.json()) as T;
    } catch (thrown) {
      throw failure("broken_stream", `The answer of ${path} is not JSON: ${messageOf(thrown)}`, thrown);
    }
  };
  return Object.assign(call, { response });
}

/** A server to talk to. */
export interface ConnectOptions {
  /** Where the server's paths begin, without `/v1`: `http://localhost:8080`. */
  baseURL: string | URL;
  /** Sent with every request, for instance `{authorization: "Bearer KEY"}`. */
  headers?: Record<string, string>;
  /** Instead of the global `fetch`. */
  fetch?: Fetch;
}

/** The same client for a reprise-server or a llama-server. */
export function connect({ baseURL, headers = {}, fetch = globalThis.fetch }: ConnectOptions): Client {
  const base = String(baseURL).replace(/\/+$/, "");
  return new Client(async (input, init = {}) => {
    const all = new Headers(input instanceof Request ? input.headers : headers);
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    new Headers(init.headers).forEach((value, name) => all.set(name, value));
    const target = typeof input === "string" && input.startsWith("/") ? base + input : input;
    try {
      return await fetch(target, { ...init, headers: all });
    } catch (thrown) {
      init.signal?.throwIfAborted();
      throw failure("network_error", `The server at ${base} cannot be reached: ${messageOf(thrown)}`, thrown);
    }
  });
}
