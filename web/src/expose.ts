// The page's half of the service-worker recipe: its engine answers requests that the service worker caught.

import { Subscription } from "./dispose.js";
import { QUESTION, YES, type Handover, type Question } from "./exposure.js";
import { serve } from "./serve.js";
import type { Fetch } from "./types.js";

/** Answers what the page's service worker passes on (see `reprise/service-worker`), until it is unsubscribed. */
export function exposeToServiceWorker(
  engine: { fetch: Fetch },
  container: ServiceWorkerContainer = navigator.serviceWorker,
): Subscription {
  const listen = ({ data, ports: [port] }: MessageEvent<Question>): void => {
    if (data?.kind !== QUESTION || !port) return;
    port.onmessage = ({ data }: MessageEvent<Handover>) => {
      const { request, port: answer } = data;
      const { method, url, headers, body } = request;
      port.close();
      void serve(
        (_, signal) => engine.fetch(url, { method, headers, body: body as BodyInit, signal }),
        request,
        answer,
      );
    };
    port.postMessage(YES);
  };
  container.addEventListener("message", listen);
  container.startMessages();
  return new Subscription(() => container.removeEventListener("message", listen));
}
