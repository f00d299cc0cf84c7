// The page's end of the bridge: owns the engine, answers requests through its `fetch`, and reaches into IndexedDB.

import * as reprise from "../reprise/index.js";
import { openChannel } from "./channel.js";
import * as images from "./images.js";

let engine;
/** What the engine told, in order. */
const events = [];
/** Requests in flight, by number. */
const aborts = new Map();

/** An error as the other end shows it. */
function told(error) {
  const { name, status, type, message } = error ?? {};
  return { name: name ?? "Error", status, type, message: message ?? String(error) };
}

/** Starts an engine; gives what it runs on, or the error. */
async function start(options) {
  try {
    const onProgress = ({ phase, loaded }) => void (globalThis.bridge.progress = { phase, loaded });
    engine = await reprise.createEngine({ ...options, onProgress, onEvent: (event) => events.push(event) });
    return { info: await engine.info() };
  } catch (error) {
    return { error: told(error) };
  }
}

/** Answers what comes over the channel with the engine. */
async function serve(path) {
  const send = await openChannel(path, (head, bytes) => {
    if (head.abort) aborts.get(head.id)?.abort();
    else void answer(head, bytes, send);
  });
}

async function answer({ id, method, url, headers }, bytes, send) {
  const abort = new AbortController();
  aborts.set(id, abort);
  const { signal } = abort;
  try {
    const response = await engine.fetch(url, { method, headers, signal, body: bytes.length > 0 ? bytes : undefined });
    send({ id, status: response.status, headers: [...response.headers] });
    const reader = response.body?.getReader();
    for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
      send({ id }, piece.value);
    }
    send({ id, end: true });
  } catch (error) {
    if (!signal.aborted) send({ id, failed: told(error) });
  } finally {
    aborts.delete(id);
  }
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

globalThis.bridge = {
  reprise,
  start,
  serve,
  told,
  events,
  /** Of the engine that starts, as it was told last. */
  progress: undefined,
  log: () => events.map((event) => (event.type === "log" ? event.line : JSON.stringify(event))),
  images,
  engine: () => engine,
  readImage: async (name) => toBase64(await images.read(name)),
  writeImage: (name, bytes) => images.write(name, fromBase64(bytes)),
};
