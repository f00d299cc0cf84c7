// The service worker's half of the recipe: requests of the origin's own pages to `/v1/*` go to the page that has an engine.

import { QUESTION, YES, type Handover, type Question } from "./exposure.js";
import type { WireRequest } from "./protocol.js";
import { toWire } from "./request.js";
import { exchange } from "./transport.js";

/** What a service worker's `fetch` event and its clients have; TypeScript knows them only without the DOM. */
export interface FetchEventLike {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
  waitUntil(end: Promise<void>): void;
}

interface ClientLike {
  postMessage(message: Question, transfer: Transferable[]): void;
}

/** Time in which a page must say that it has an engine, ms. */
const PATIENCE = 3000;

/**
 * Answers a `fetch` event from an engine of a page, if its path begins with one of the prefixes; tells whether it does.
 * Without such a page the answer is a 503.
 */
export function answerFromEngine(event: FetchEventLike, prefixes: string[] = ["/v1/"]): boolean {
  const { pathname, origin } = new URL(event.request.url);
  if (origin !== globalThis.location.origin || !prefixes.some((prefix) => pathname.startsWith(prefix))) return false;
  // A service worker that only passes a stream on counts as idle, and may be stopped in the middle of a long answer.
  event.waitUntil(new Promise((finished) => answer(event, finished)));
  return true;
}

function answer(event: FetchEventLike, finished: (_: void) => void): void {
  const response = forward(event.request, finished);
  response.catch(finished);
  event.respondWith(response);
}

async function forward(request: Request, finished: () => void): Promise<Response> {
  const wire = await toWire(request);
  const page = await whoAnswers(wire);
  if (!page) {
    finished();
    return unavailable();
  }
  const send = (request: WireRequest, port: MessagePort, transfer: Transferable[]): void => {
    page.postMessage({ request, port } satisfies Handover, transfer);
  };
  return exchange(wire, send, request.signal, new Set(), finished);
}

/** The port to the first page that says yes. */
async function whoAnswers({ url: path }: WireRequest): Promise<MessagePort | undefined> {
  const { clients } = globalThis as unknown as { clients: { matchAll(options: object): Promise<ClientLike[]> } };
  const pages = await clients.matchAll({ type: "window", includeUncontrolled: true });
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(undefined), PATIENCE);
    for (const page of pages) {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }: MessageEvent<unknown>) => {
        if (data !== YES) return;
        clearTimeout(timer);
        // A second page that says yes hears nothing more.
        resolve(port1);
      };
      page.postMessage({ kind: QUESTION, path }, [port2]);
    }
  });
}

function unavailable(): Response {
  const message = "No open page has an engine: open the page that creates one.";
  return Response.json({ error: { code: 503, message, type: "unavailable_error" } }, { status: 503 });
}
