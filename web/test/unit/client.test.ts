// The typed helpers over a recorded `fetch`: what they send, and what they make of the answers.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { Client, connect, RepriseError, type Chunk } from "reprise";

interface Sent {
  path: string;
  init: RequestInit | undefined;
  body: Record<string, unknown>;
}

/** A client whose server says `events`, and what it was sent. */
function scripted(events: unknown[], end = "data: [DONE]\n\n"): { client: Client; sent: Sent[] } {
  const sent: Sent[] = [];
  const client = new Client(async (input, init) => {
    sent.push({ path: String(input), init, body: JSON.parse(String(init?.body ?? "{}")) as Record<string, unknown> });
    const text = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("") + end;
    return new Response(text);
  });
  return { client, sent };
}

const delta = (content: string | null, finish_reason: string | null = null): object => ({
  choices: [{ index: 0, delta: content === null ? {} : { content }, finish_reason }],
});

test("chat sends wire names and gives chunks with what came with them", async () => {
  const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
  const timings = { cache_n: 2, prompt_n: 1 };
  const progress = { total: 3, cache: 2, processed: 3, time_ms: 1 };
  const { client, sent } = scripted([
    { choices: [{ index: 0, delta: { role: "assistant", content: null } }] },
    { choices: [{ index: 0, delta: { role: "assistant", content: null } }], prompt_progress: progress },
    delta("Hel"),
    delta("lo"),
    delta(null, "stop"),
    { choices: [], usage, timings },
  ]);
  const chunks: Chunk[] = [];
  const messages = [{ role: "user", content: "hi" }];
  const options = {
    messages,
    slot: 1,
    cachePrompt: false,
    maxTokens: 5,
    topK: 1,
    progress: true,
    fields: { n_keep: 2, top_k: 3 },
  };
  for await (const chunk of client.chat(options)) chunks.push(chunk);
  assert.deepEqual(
    chunks.map(({ raw: _, ...chunk }) => chunk),
    [
      { text: "", progress },
      { text: "Hel" },
      { text: "lo" },
      { text: "", finishReason: "stop" },
      { text: "", usage, timings },
    ],
  );
  assert.equal(sent[0]?.path, "/v1/chat/completions");
  assert.deepEqual(sent[0]?.body, {
    messages,
    stream: true,
    stream_options: { include_usage: true },
    id_slot: 1,
    cache_prompt: false,
    max_tokens: 5,
    top_k: 3,
    return_progress: true,
    n_keep: 2,
  });
  assert.deepEqual(await client.chat({ messages }).result(), { text: "Hello", finishReason: "stop", usage, timings });
});

test("complete reads llama-server's own events, which end without [DONE]", async () => {
  const { client, sent } = scripted(
    [
      { content: "a", stop: false },
      { content: "b", stop: true, stop_type: "limit" },
    ],
    "",
  );
  assert.deepEqual(await client.complete({ prompt: ["x", 5] }).result(), { text: "ab", finishReason: "limit" });
  assert.deepEqual([sent[0]?.path, sent[0]?.body], ["/completion", { prompt: ["x", 5], stream: true }]);
});

test("what goes wrong in a stream is thrown", async () => {
  const wire = { error: { code: 503, type: "unavailable_error", message: "lost" } };
  const fails = (events: unknown[], end: string): Promise<unknown> => {
    const { client } = scripted(events, end);
    return client.chat({ messages: [] }).result();
  };
  await assert.rejects(fails([delta("a"), wire], ""), {
    name: "RepriseError",
    status: 503,
    type: "unavailable_error",
    message: "lost",
  });
  await assert.rejects(fails([delta("a")], ""), { type: "broken_stream" });
  await assert.rejects(fails([], "data: {half\n\n"), { type: "broken_stream" });
  const refusing = new Client(async () => Response.json(wire, { status: 503 }));
  await assert.rejects(refusing.chat({ messages: [] }).result(), { status: 503, type: "unavailable_error" });
  await assert.rejects(refusing.slots.list(), { status: 503, type: "unavailable_error" });
});

test("a generation can be cancelled by its signal, by itself and by leaving its block", async () => {
  const signals: AbortSignal[] = [];
  const client = new Client(async (_, init) => {
    signals.push(init!.signal!);
    return new Response(`data: ${JSON.stringify(delta("x"))}\n\n`.repeat(3));
  });
  const abort = new AbortController();
  for await (const _ of client.chat({ messages: [], signal: abort.signal })) {
    abort.abort(new Error("enough"));
    break;
  }
  assert.equal((signals[0]?.reason as Error).message, "enough");
  const generation = client.chat({ messages: [] });
  await generation[Symbol.asyncIterator]().next();
  await generation[Symbol.asyncDispose]();
  assert.ok(signals[1]?.aborted);
  await assert.rejects(client.chat({ messages: [], signal: AbortSignal.abort() }).result(), { name: "AbortError" });
  assert.equal(signals.length, 2);
});

test("a session keeps its messages and its slot", async () => {
  const { client, sent } = scripted([delta("Hi"), delta("!"), delta(null, "stop")]);
  const session = client.session({ system: "Be kind.", slot: 1 });
  let said = "";
  for await (const chunk of session.send("hello")) said += chunk.text;
  assert.equal(said, "Hi!");
  const wanted = [
    { role: "system", content: "Be kind." },
    { role: "user", content: "hello" },
    { role: "assistant", content: "Hi!" },
  ];
  assert.deepEqual(session.messages, wanted);
  for await (const _ of session.send("again", { maxTokens: 1 })) break;
  assert.deepEqual(sent[1]?.body["messages"], [...wanted, { role: "user", content: "again" }]);
  assert.deepEqual([sent[1]?.body["id_slot"], sent[1]?.body["max_tokens"]], [1, 1]);
  assert.deepEqual(session.messages.at(-1), { role: "assistant", content: "Hi" });
  await session[Symbol.asyncDispose]();

  const failing = scripted([{ error: { code: 503, type: "unavailable_error", message: "lost" } }]).client.session();
  await assert.rejects(failing.send("hello").next(), { status: 503 });
  assert.deepEqual(failing.messages, []);
});

test("connect talks to a server: paths, headers, streams, and a server that is not there", async () => {
  const seen: (string | undefined)[][] = [];
  const server = createServer((request, response) => {
    seen.push([request.method, request.url, request.headers.authorization, request.headers["content-type"]]);
    if (request.url === "/slots") return void response.end("[]");
    if (request.url === "/slots/0/state") {
      response.setHeader("etag", '"e"');
      if (request.headers["if-none-match"] === '"e"') return void response.writeHead(304).end();
      return void response.end(new Uint8Array([1, 2, 3]));
    }
    response.end(`data: ${JSON.stringify(delta("hi", "stop"))}\n\ndata: [DONE]\n\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const client = connect({ baseURL, headers: { authorization: "Bearer k" } });
  assert.deepEqual(await client.slots.list(), []);
  assert.deepEqual(await client.chat({ messages: [] }).result(), { text: "hi", finishReason: "stop" });
  const file = await client.slots.export(0);
  assert.deepEqual([file.name, file.size, file.etag], ["slot-0.bin", 3, '"e"']);
  assert.equal(await client.slots.export(0, { ifNoneMatch: '"e"' }), undefined);
  assert.equal((await client.slots.export(0, { ifNoneMatch: '"f"' }))?.size, 3);
  assert.deepEqual(seen, [
    ["GET", "/slots", "Bearer k", undefined],
    ["POST", "/v1/chat/completions", "Bearer k", "application/json"],
    ["GET", "/slots/0/state", "Bearer k", undefined],
    ["GET", "/slots/0/state", "Bearer k", undefined],
    ["GET", "/slots/0/state", "Bearer k", undefined],
  ]);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await assert.rejects(client.health(), (error) => {
    assert.ok(error instanceof RepriseError);
    assert.deepEqual([error.type, error.status], ["network_error", 502]);
    return true;
  });
});
