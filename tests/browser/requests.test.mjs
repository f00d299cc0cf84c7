// Requests in the page: streams that are left, a page that hides while it answers, and clients made for servers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { fixture, Lab, Server } from "./support.mjs";

let lab;

before(async () => {
  lab = await Lab.open();
});
after(() => lab.close());

for (const backend of ["wasm", "webgpu"]) {
  test(`a stream that is left ends its generation (${backend})`, async () => {
    const tab = await lab.tab();
    await tab.started({ backend, contextShift: true });
    const read = await tab.page.evaluate(async () => {
      const abort = new AbortController();
      const json = { prompt: "Hello there", n_predict: -1, temperature: 0, id_slot: 0, stream: true };
      const response = await bridge.engine().fetch("/completion", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(json),
        signal: abort.signal,
      });
      const reader = response.body.getReader();
      for (let chunks = 0; chunks < 3; chunks++) await reader.read();
      abort.abort();
      return reader.read().then(
        () => "went on",
        (error) => error.name,
      );
    });
    assert.equal(read, "AbortError");
    // It was without end: that the slot is free shows that it was cancelled.
    await tab.page.waitForFunction(async () => {
      const slots = await (await bridge.engine().fetch("/slots")).json();
      return slots.every((slot) => !slot.is_processing);
    });
    const next = await tab.complete("Hello there", 4);
    assert.equal(next.timings.prompt_n, 1);
    await tab.context.close();
  });
}

test("the openai package in the page, with the engine's fetch, gets what it gets from a server", async () => {
  const model = fixture("tiny-llama-bpe.gguf");
  const server = await Server.start({ model });
  const tab = await lab.tab();
  try {
    await tab.started({ model: lab.site.model(model) });
    const messages = [{ role: "user", content: "Hello there, how are you?" }];
    const request = { model: "any", messages, temperature: 0, max_tokens: 12 };
    const { answer, streamed, refused } = await tab.page.evaluate(async (request) => {
      const { default: OpenAI } = await import("/openai/index.mjs");
      const { fetch } = bridge.engine();
      const client = new OpenAI({
        baseURL: "http://reprise/v1",
        apiKey: "-",
        fetch,
        dangerouslyAllowBrowser: true,
        maxRetries: 0,
      });
      const answer = await client.chat.completions.create(request);
      let streamed = "";
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
        streamed += chunk.choices[0]?.delta?.content ?? "";
      }
      const refused = await client.chat.completions.create({ ...request, messages: "none" }).catch((error) => error);
      return { answer, streamed, refused: { status: refused.status, type: refused.type } };
    }, request);
    const expected = (await server.send("/v1/chat/completions", request)).body;
    const text = expected.choices[0].message.content;
    assert.ok(text.length > 0);
    assert.equal(answer.choices[0].message.content, text);
    assert.equal(answer.usage.completion_tokens, expected.usage.completion_tokens);
    assert.equal(streamed, text);
    assert.deepEqual(refused, { status: 400, type: "invalid_request_error" });
  } finally {
    await tab.context.close();
    await server.stop();
  }
});

test("an engine that was disposed refuses, and another one takes its place", async () => {
  const tab = await lab.tab();
  await tab.started();
  await tab.complete("Hello there", 4);
  const error = await tab.page.evaluate(async () => {
    await bridge.engine().dispose();
    return bridge.engine().fetch("/health").catch(bridge.told);
  });
  assert.deepEqual([error.name, error.type], ["RepriseError", "disposed"]);
  await tab.started();
  // Disposing has saved the slot, so its prompt is there.
  assert.equal((await tab.complete("Hello there", 4)).timings.prompt_n, 1);
  await tab.context.close();
});
