// The service worker: keeps the page's files, so that it opens offline, and isolates it where the host's headers do not.

import { runsThreads } from "reprise/dist/module.js";

/** The build puts the lists of files here: the page's, and those of the engine's two builds. */
declare const __SHELL__: { version: string; files: string[]; threads: string[]; simd: string[] };

const worker = self as unknown as ServiceWorkerGlobalScope;
const shell = __SHELL__;
/** Only one of the engine's builds runs in this browser; the other is not worth its megabytes. */
const files = [...shell.files, ...(runsThreads() && shell.threads.length > 0 ? shell.threads : shell.simd)];
const PREFIX = "reprise-page-";
const CACHE = PREFIX + shell.version;
const ENTRY = "index.html";

worker.addEventListener("install", (event) => event.waitUntil(install()));
worker.addEventListener("activate", (event) => event.waitUntil(activate()));
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const name = nameOf(request);
  if (name !== undefined) event.respondWith(answer(name, request));
});

/** Fetches every file; those with a hash in their name may come from the HTTP cache. */
async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  await Promise.all(
    files.map(async (name) => {
      const mode = name.startsWith("assets/") ? "default" : "no-cache";
      const response = await fetch(address(name), { cache: mode });
      if (!response.ok) throw new Error(`${name}: status ${response.status}`);
      await cache.put(address(name), response);
    }),
  );
  await worker.skipWaiting();
}

/** Takes over, and drops what older versions kept. */
async function activate(): Promise<void> {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await worker.clients.claim();
}

const address = (name: string): string => new URL(name, worker.registration.scope).href;

/** The page's file that a request is for; everything else, the API above all, is none of this worker's business. */
function nameOf({ method, url, mode }: Request): string | undefined {
  if (method !== "GET" || !url.startsWith(worker.registration.scope)) return undefined;
  const name = new URL(url).pathname.slice(new URL(worker.registration.scope).pathname.length);
  if (name === "" && mode === "navigate") return ENTRY;
  return files.includes(name) ? name : undefined;
}

/** The entry comes from the network where there is one, so that a new version shows; all else is kept for good. */
async function answer(name: string, request: Request): Promise<Response> {
  const kept = async (): Promise<Response | undefined> => (await caches.open(CACHE)).match(address(name));
  if (name !== ENTRY) return isolated((await kept()) ?? (await fetch(request)));
  try {
    const fresh = await fetch(request);
    if (fresh.ok) return isolated(fresh);
    return isolated((await kept()) ?? fresh);
  } catch (error) {
    const response = await kept();
    if (response === undefined) throw error;
    return isolated(response);
  }
}

/** Static hosts rarely send these headers; without them there is no shared memory, and without it there are no threads. */
function isolated(response: Response): Response {
  if (response.type === "opaqueredirect" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cross-origin-embedder-policy", "require-corp");
  headers.set("cross-origin-resource-policy", "same-origin");
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
