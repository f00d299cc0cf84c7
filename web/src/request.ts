// A request as a message: what `fetch` takes, read once.

import type { WireRequest } from "./protocol.js";

/** Reads what `fetch(input, init)` was given. Headers go on as they were given: nothing that a page may not set is dropped. */
export async function toWire(input: string | URL | Request, init: RequestInit = {}): Promise<WireRequest> {
  const base = input instanceof Request ? input : undefined;
  const headers = new Headers(init.headers ?? base?.headers);
  const method = (init.method ?? base?.method ?? "GET").toUpperCase();
  const request: WireRequest = { method, url: pathOf(base?.url ?? String(input)), headers: [] };
  const body = init.body ?? base?.body;
  if (body !== undefined && body !== null) {
    if (method === "GET" || method === "HEAD") {
      throw new TypeError(`A ${method} request cannot have a body.`);
    }
    const read = new Response(body);
    const type = read.headers.get("content-type");
    if (type !== null && !headers.has("content-type")) headers.set("content-type", type);
    request.body = new Uint8Array(await read.arrayBuffer());
  }
  request.headers = [...headers];
  return request;
}

/** The signal that ends a request. */
export function signalOf(input: string | URL | Request, init: RequestInit = {}): AbortSignal | undefined {
  return init.signal ?? (input instanceof Request ? input.signal : undefined);
}

/** The path and query of any URL: an engine answers on every host name. */
function pathOf(url: string): string {
  const { pathname, search } = new URL(url, "http://reprise/");
  return pathname + search;
}
