// The channel between page and worker, both ends in this thread, with the scripted module behind it.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { after, before, test } from "node:test";

import type { Command, WireRequest } from "reprise/dist/protocol.js";
import { RepriseError } from "reprise/dist/errors.js";
import { answer, serve } from "reprise/dist/serve.js";
import { Transport } from "reprise/dist/transport.js";

interface Twin {
  fetch(request: WireRequest & { signal: AbortSignal }): Promise<Response>;
}

/** Waits until the engine has heard of so many aborts; the test's own time limit is the only one. */
async function abortsBecome(wanted: number): Promise<void> {
  while ((await counts()).aborts < wanted) await settle();
  assert.equal((await counts()).aborts, wanted);
}

let transport: Transport;
let ports: MessageChannel;
const counts = async (): Promise<{ aborts: number; pulled: number }> =>
  (await transport.fetch("/counts")).json() as Promise<{ aborts: number; pulled: number }>;
/** Lets messages that are under way arrive. */
const settle = (): Promise<void> => new Promise((resume) => setTimeout(resume, 30));

before(async () => {
  const source = { size: 0, read: () => new Uint8Array() };
  const { Engine } = (await import(new URL("../../test/twin/reprise.js", import.meta.url).href)) as {
    Engine: { load(options: object, host: object): Promise<Twin> };
  };
  const twin = await Engine.load({ modelName: "twin" }, { source, event: () => undefined, progress: () => undefined });
  ports = new MessageChannel();
  ports.port2.onmessage = ({ data }: MessageEvent<Command>) => {
    if (data.kind === "fetch")
      void serve((request, signal) => twin.fetch({ ...request, signal }), data.request, data.port);
    if (data.kind === "call")
      void answer(() => (data.name === "info" ? { name: data.name } : Promise.reject(new Error("no"))), data.port);
  };
  transport = new Transport(ports.port1);
});

after(() => {
  ports.port1.close();
  ports.port2.close();
});

test("a request arrives as it was made, headers that a page may not set included", async () => {
  const { fetch } = transport;
  const response = await fetch("http://reprise/echo?x=%20y", {
    method: "post",
    headers: [
      ["Origin", "http://evil.example"],
      ["X-Two", "a"],
      ["x-two", "b"],
      ["Cookie", "c"],
    ],
    body: "text é",
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("x-twin"), "yes");
  assert.deepEqual(await response.json(), {
    method: "POST",
    url: "/echo?x=%20y",
    headers: [
      ["content-type", "text/plain;charset=UTF-8"],
      ["cookie", "c"],
      ["origin", "http://evil.example"],
      ["x-two", "a, b"],
    ],
    body: "text é",
  });
});

test("bodies of every kind, Request objects and empty answers", async () => {
  const echoed = async (input: string | Request, init?: RequestInit): Promise<{ body: string; method: string }> =>
    (await transport.fetch(input, init)).json() as Promise<{ body: string; method: string }>;
  const bytes = new TextEncoder().encode("bytes");
  for (const body of [bytes, bytes.buffer as ArrayBuffer, new Blob(["bytes"]), new Response("bytes").body]) {
    assert.equal((await echoed("/echo", { method: "PUT", body, duplex: "half" } as RequestInit)).body, "bytes");
  }
  const request = new Request("http://reprise/echo", { method: "POST", body: "bytes" });
  assert.deepEqual(await echoed(request).then(({ body, method }) => [method, body]), ["POST", "bytes"]);
  const nothing = await transport.fetch("/nothing");
  assert.deepEqual([nothing.status, nothing.body], [204, null]);
  await assert.rejects(transport.fetch("/echo", { body: "x" }), TypeError);
  const unknown = await transport.fetch("/no/such/path");
  assert.deepEqual([unknown.status, ((await unknown.json()) as { error: { code: number } }).error.code], [404, 404]);
});

test("chunks come as they are asked for, not before", async () => {
  const before = (await counts()).pulled;
  const response = await transport.fetch("/stream?chunks=50&bytes=1000");
  await settle();
  const early = (await counts()).pulled - before;
  assert.ok(early <= 2, `${early} of 50 chunks were pulled without a reader`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  assert.equal(bytes.length, 50_000);
  for (let chunk = 0; chunk < 50; chunk += 1) assert.equal(bytes[chunk * 1000], chunk);
});

test("cancelling the body and aborting the signal both reach the engine", async () => {
  const before = (await counts()).aborts;
  const cancelled = await transport.fetch("/stream?chunks=1000&bytes=10");
  const reader = cancelled.body!.getReader();
  await reader.read();
  await reader.cancel();
  await abortsBecome(before + 1);

  const abort = new AbortController();
  const aborted = await transport.fetch("/stream?chunks=1000&bytes=10", { signal: abort.signal });
  abort.abort(new Error("enough"));
  await assert.rejects(aborted.text(), /enough/);
  await abortsBecome(before + 2);

  const early = new AbortController();
  const hanging = transport.fetch("/hang", { signal: early.signal });
  await settle();
  early.abort();
  await assert.rejects(hanging, { name: "AbortError" });
  await abortsBecome(before + 3);
  await assert.rejects(transport.fetch("/echo", { signal: AbortSignal.abort(new Error("too early")) }), /too early/);
});

test("an abort while the body is still read is not lost", { timeout: 30_000 }, async () => {
  const abort = new AbortController();
  const asked = transport.fetch("/hang", { method: "POST", body: new Blob(["x"]), signal: abort.signal });
  abort.abort(new Error("changed my mind"));
  await assert.rejects(asked, /changed my mind/);
});

test("a signal that outlives its request keeps nothing of it", async () => {
  const { signal } = new AbortController();
  const response = await transport.fetch("/stream?chunks=3&bytes=10", { signal });
  assert.equal(getEventListeners(signal, "abort").length, 1);
  await response.arrayBuffer();
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("an error in the middle of a stream is the reader's", async () => {
  const response = await transport.fetch("/breaks");
  assert.equal(response.status, 200);
  await assert.rejects(response.text(), (error) => {
    assert.ok(error instanceof RepriseError);
    assert.deepEqual([error.status, error.type, error.message], [503, "unavailable_error", "the device was lost"]);
    return true;
  });
});

test("calls give values and errors", async () => {
  assert.deepEqual(await transport.call("info"), { name: "info" });
  await assert.rejects(transport.call("persist"), { name: "RepriseError", message: "no" });
});

test("the end fails what is under way and what comes later", async () => {
  const before = (await counts()).aborts;
  const channel = new MessageChannel();
  channel.port2.onmessage = ({ data }: MessageEvent<Command>) => {
    // Passed on to the twin behind the first transport.
    if (data.kind === "fetch") ports.port1.postMessage(data, [data.port]);
  };
  const other = new Transport(channel.port1);
  const stream = await other.fetch("/stream?chunks=1000&bytes=10");
  const [hanging, calling] = [other.fetch("/hang"), other.call("info")];
  await settle();
  other.end();
  const gone = { name: "RepriseError", type: "disposed", status: 503 };
  await assert.rejects(stream.text(), gone);
  await assert.rejects(hanging, gone);
  await assert.rejects(calling, gone);
  await assert.rejects(other.fetch("/echo"), gone);
  await abortsBecome(before + 2);
  channel.port1.close();
});
