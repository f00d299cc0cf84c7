// A conversation: its messages, a slot that stays with it, and one answer at a time.

import type { Client } from "./client.js";
import { asyncDispose } from "./dispose.js";
import type { Generation } from "./generation.js";
import type { ChatMessage, ChatOptions, Chunk } from "./types.js";

export interface SessionOptions extends Omit<ChatOptions, "messages" | "signal"> {
  /** The conversation so far; the session goes on with a copy. */
  messages?: ChatMessage[];
  /** A system message in front of it. */
  system?: string;
}

/**
 * Keeps the messages of a conversation. An answer is appended when it ends, and also as far as it came when it was
 * cancelled, because the slot holds it then.
 */
export class Session {
  readonly messages: ChatMessage[];
  readonly #client: Client;
  readonly #options: Omit<ChatOptions, "messages">;
  #running: Generation | undefined;

  constructor(client: Client, { messages = [], system, ...options }: SessionOptions) {
    this.#client = client;
    this.#options = options;
    this.messages = system === undefined ? [...messages] : [{ role: "system", content: system }, ...messages];
  }

  /** Says something and gives the answer chunk by chunk. An answer that still runs is cancelled first. */
  async *send(content: string, options: Partial<ChatOptions> = {}): AsyncGenerator<Chunk, void, undefined> {
    this.cancel();
    const question: ChatMessage = { role: "user", content };
    this.messages.push(question);
    const generation = this.#client.chat({ ...this.#options, ...options, messages: [...this.messages] });
    this.#running = generation;
    const answer: ChatMessage & { content: string } = { role: "assistant", content: "" };
    try {
      for await (const chunk of generation) {
        if (answer.content === "" && chunk.text !== "") this.messages.push(answer);
        answer.content += chunk.text;
        yield chunk;
      }
    } catch (thrown) {
      // What got no answer at all can be said again.
      if (answer.content === "") this.messages.splice(this.messages.indexOf(question), 1);
      throw thrown;
    } finally {
      if (this.#running === generation) this.#running = undefined;
    }
  }

  /** Ends the answer that runs, if one does. */
  cancel(): void {
    this.#running?.cancel();
    this.#running = undefined;
  }

  async [asyncDispose](): Promise<void> {
    this.cancel();
  }
}
