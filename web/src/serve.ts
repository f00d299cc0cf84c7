// The worker's end of the channel: answers one request over its port, chunk by chunk as they are asked for.

import { toParts } from "./errors.js";
import type { Answer, Demand, Reply, WireRequest } from "./protocol.js";

/** Answers a request: the engine's `fetch`, or the page's for a service worker. */
export type Handler = (request: WireRequest, signal: AbortSignal) => Promise<Response>;

/** Answers `request` over `port`. Nothing is thrown: what fails is told to the other side. */
export async function serve(handler: Handler, request: WireRequest, port: MessagePort): Promise<void> {
  const abort = new AbortController();
  const demand = new Demands();
  port.onmessage = ({ data }: MessageEvent<Demand>) => {
    if (data.kind === "pull") return demand.add();
    abort.abort();
    demand.end();
  };
  const say = (reply: Reply, transfer: Transferable[] = []): void => port.postMessage(reply, transfer);
  try {
    const response = await handler(request, abort.signal);
    const { status, statusText, headers, body } = response;
    if (abort.signal.aborted) return void (await body?.cancel());
    say({ kind: "head", status, statusText, headers: [...headers], body: body !== null });
    if (body) await pump(body, demand, say);
  } catch (thrown) {
    if (!abort.signal.aborted) say({ kind: "error", error: toParts(thrown) });
  } finally {
    port.close();
  }
}

async function pump(
  body: ReadableStream<Uint8Array>,
  demand: Demands,
  say: (reply: Reply, transfer?: Transferable[]) => void,
): Promise<void> {
  const reader = body.getReader();
  // An abort must not wait for a read that the engine does not answer.
  demand.onEnd = () => void reader.cancel().catch(() => undefined);
  while (await demand.next()) {
    const { done, value } = await reader.read();
    if (demand.ended) return;
    if (done) return say({ kind: "end" });
    // A chunk that is a window into a larger buffer (the wasm heap) is copied, else handed over.
    const bytes = value.byteLength === value.buffer.byteLength ? value : value.slice();
    say({ kind: "chunk", bytes }, [bytes.buffer as ArrayBuffer]);
  }
}

/** Counts the chunks that were asked for. */
class Demands {
  ended = false;
  onEnd: (() => void) | undefined;
  #open = 0;
  #wake: (() => void) | undefined;

  add(): void {
    this.#open += 1;
    this.#wake?.();
  }

  end(): void {
    this.ended = true;
    this.#wake?.();
    this.onEnd?.();
  }

  /** Waits for a demand; false when none will come. */
  async next(): Promise<boolean> {
    while (this.#open === 0 && !this.ended) {
      await new Promise<void>((resume) => {
        this.#wake = resume;
      });
    }
    this.#open -= 1;
    return !this.ended;
  }
}

/** Answers a call over its port. */
export async function answer(call: () => unknown, port: MessagePort): Promise<void> {
  let reply: Answer;
  try {
    reply = { kind: "value", value: await call() };
  } catch (thrown) {
    reply = { kind: "error", error: toParts(thrown) };
  }
  port.postMessage(reply);
  port.close();
}
