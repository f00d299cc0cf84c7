// The messages between a service worker and the page that has the engine.

import type { WireRequest } from "./protocol.js";

/** Service worker to page: who can answer? */
export const QUESTION = "reprise:answers?";

export interface Question {
  kind: typeof QUESTION;
  path: string;
}

/** Page to service worker, on the question's port. */
export const YES = "reprise:yes";

/** Service worker to page, on the same port: the request, with a port for its answer. */
export interface Handover {
  request: WireRequest;
  port: MessagePort;
}
