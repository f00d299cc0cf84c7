// The page's end of the channel: requests out, responses in, with back-pressure and cancelling.

import { disposed, fromParts } from "./errors.js";
import type { Answer, CallName, Command, Demand, Reply, WireRequest } from "./protocol.js";
import { signalOf, toWire } from "./request.js";
import type { Fetch } from "./types.js";

/** Sends one request into a port that is answered by `serve`. */
export type Send = (request: WireRequest, port: MessagePort, transfer: Transferable[]) => void;

/** Requests and calls over one port. */
export class Transport {
  readonly #port: MessagePort;
  /** How to end what is under way when the other side is gone. */
  readonly #pending = new Set<(error: Error) => void>();
  #ended: Error | undefined;

  constructor(port: MessagePort) {
    this.#port = port;
  }

  /** Like the page's own `fetch`. */
  readonly fetch: Fetch = async (input, init) => {
    const signal = signalOf(input, init);
    signal?.throwIfAborted();
    const request = await toWire(input, init);
    if (this.#ended) throw this.#ended;
    const send: Send = (request, port, transfer) =>
      this.#port.postMessage({ kind: "fetch", request, port } satisfies Command, transfer);
    return exchange(request, send, signal, this.#pending);
  };

  /** Calls something that is no HTTP. The `last` call goes through after the end too. */
  call<T>(name: CallName, last = false): Promise<T> {
    if (this.#ended && !last) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      const { port1, port2 } = new MessageChannel();
      const finish = (): void => {
        this.#pending.delete(failed);
        port1.close();
      };
      const failed = (error: Error): void => {
        finish();
        reject(error);
      };
      this.#pending.add(failed);
      port1.onmessage = ({ data }: MessageEvent<Answer>) => {
        if (data.kind === "error") return failed(fromParts(data.error));
        finish();
        resolve(data.value as T);
      };
      this.#port.postMessage({ kind: "call", name, port: port2 } satisfies Command, [port2]);
    });
  }

  /** Ends everything that is under way, and refuses what comes later. */
  end(error: Error = disposed()): void {
    this.#ended ??= error;
    for (const fail of [...this.#pending]) fail(error);
  }

  /** Whether {@link Transport.end} was called. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }
}

/**
 * One request and its response over a port. The promise settles with the response's head; the body asks for a chunk only
 * when the reader has room for it, and ends the request when it is cancelled. `finished` is called when nothing more comes,
 * however that came about.
 */
export function exchange(
  request: WireRequest,
  send: Send,
  signal: AbortSignal | undefined,
  pending: Set<(error: Error) => void> = new Set(),
  finished: () => void = () => undefined,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    // It may have been aborted while the body was read.
    signal?.throwIfAborted();
    const { port1: port, port2 } = new MessageChannel();
    const say = (demand: Demand): void => port.postMessage(demand);
    let body: ReadableStreamDefaultController<Uint8Array> | undefined;
    let pulled: (() => void) | undefined;

    const finish = (): void => {
      pending.delete(ended);
      signal?.removeEventListener("abort", aborted);
      pulled?.();
      // What is still on its way is of no interest any more.
      port.onmessage = null;
      port.close();
      finished();
    };
    const fail = (reason: unknown): void => {
      finish();
      if (body) body.error(reason);
      else reject(reason);
    };
    const aborted = (): void => {
      say({ kind: "abort" });
      fail(signal?.reason);
    };
    const stream = (): ReadableStream<Uint8Array> =>
      new ReadableStream({
        start: (controller) => {
          body = controller;
        },
        pull: () =>
          new Promise<void>((resume) => {
            pulled = resume;
            say({ kind: "pull" });
          }),
        cancel: () => {
          say({ kind: "abort" });
          finish();
        },
      });

    port.onmessage = ({ data }: MessageEvent<Reply>) => {
      switch (data.kind) {
        case "head": {
          const { status, statusText, headers } = data;
          resolve(new Response(data.body ? stream() : null, { status, statusText, headers }));
          if (!data.body) finish();
          break;
        }
        case "chunk":
          body?.enqueue(data.bytes);
          pulled?.();
          break;
        case "end":
          finish();
          body?.close();
          break;
        case "error":
          fail(fromParts(data.error));
      }
    };
    const ended = (error: Error): void => {
      say({ kind: "abort" });
      fail(error);
    };
    pending.add(ended);
    signal?.addEventListener("abort", aborted, { once: true });
    send(request, port2, request.body ? [port2, request.body.buffer as ArrayBuffer] : [port2]);
  });
}
