// The event parser, held to the standard where API streams use it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventData } from "reprise/dist/sse.js";

function bodyOf(pieces: (string | Uint8Array)[], cancelled?: () => void): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const rest = [...pieces];
  return new ReadableStream({
    pull(controller) {
      const piece = rest.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece);
    },
    cancel: () => cancelled?.(),
  });
}

async function read(...pieces: (string | Uint8Array)[]): Promise<string[]> {
  const list: string[] = [];
  for await (const data of eventData(bodyOf(pieces))) list.push(data);
  return list;
}

test("events are read however the bytes are cut", async () => {
  const text =
    'data: {"a": "é€😀"}\n\n: ping\n\ndata:two\ndata: lines\n\nevent: x\nid: 1\ndata: three\r\n\r\ndata: four\r\rdata\n\n';
  const wanted = ['{"a": "é€😀"}', "two\nlines", "three", "four", ""];
  const bytes = new TextEncoder().encode(text);
  assert.deepEqual(await read(bytes), wanted);
  for (const step of [1, 2, 3, 5, 7]) {
    const pieces = [];
    for (let at = 0; at < bytes.length; at += step) pieces.push(bytes.slice(at, at + step));
    assert.deepEqual(await read(...pieces), wanted, `cut every ${step} bytes`);
  }
});

test("an event that no empty line closed does not count", async () => {
  assert.deepEqual(await read("data: one\n\ndata: tw"), ["one"]);
  assert.deepEqual(await read("data: one\n\ndata: two\n"), ["one"]);
  assert.deepEqual(await read("data: one\r\n\r\ndata: two\r\n\r"), ["one", "two"]);
  assert.deepEqual(await read(), []);
});

test("leaving the loop cancels the body", async () => {
  let cancelled = 0;
  for await (const data of eventData(bodyOf(["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"], () => (cancelled += 1)))) {
    assert.equal(data, "1");
    break;
  }
  assert.equal(cancelled, 1);
});

test("an error of the body comes through", async () => {
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.error(new Error("gone")),
  });
  await assert.rejects(async () => {
    for await (const data of eventData(body)) assert.fail(data);
  }, /gone/);
});
