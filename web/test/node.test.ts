// The package imported in Node: the real module, a real model, and the answers that the native server gives.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { RepriseError } from "reprise";

import {
  ANSWER,
  ANSWER_TOKENS,
  HELD_TOKENS,
  modelPath,
  PROMPT_TOKENS,
  QUESTION,
  skip,
  withEngines,
} from "./support/real.js";

const messages = [{ role: "user", content: QUESTION }];
const greedy = { temperature: 0, maxTokens: ANSWER_TOKENS, slot: 0 };

test("chat gives the native server's text, and the second time only one token is computed", { skip }, () =>
  withEngines(async (start) => {
    const engine = await start();
    const info = await engine.info();
    assert.deepEqual([info.backend, info.slots], ["wasm", 2]);
    const first = await engine.chat({ messages, ...greedy }).result();
    assert.equal(first.text, ANSWER);
    assert.equal(first.finishReason, "length");
    assert.deepEqual([first.timings?.cache_n, first.timings?.prompt_n], [0, PROMPT_TOKENS]);
    assert.equal(first.usage?.completion_tokens, ANSWER_TOKENS);
    const again = await engine.chat({ messages, ...greedy }).result();
    assert.equal(again.text, ANSWER);
    assert.deepEqual([again.timings?.cache_n, again.timings?.prompt_n], [PROMPT_TOKENS - 1, 1]);
  }),
);

test("a slot survives the engine: by name, and as a file", { skip }, () =>
  withEngines(async (start) => {
    const before = await start();
    await before.chat({ messages, ...greedy }).result();
    const saved = await before.slots.save(0, "rivers.bin");
    assert.equal(saved.n_saved, HELD_TOKENS);
    const image = await before.slots.export(0);
    assert.equal(image.size, saved.n_written);
    await before.dispose();

    const next = [...messages, { role: "assistant", content: ANSWER }, { role: "user", content: "Go on." }];
    const engine = await start();
    assert.equal((await engine.slots.restore(0, "rivers.bin")).n_restored, HELD_TOKENS);
    assert.equal((await engine.slots.import(1, image)).n_restored, HELD_TOKENS);
    const answers: string[] = [];
    const cached: number[] = [];
    for (const slot of [0, 1]) {
      const { text, timings } = await engine.chat({ messages: next, ...greedy, slot, maxTokens: 8 }).result();
      answers.push(text);
      cached.push(timings?.cache_n ?? 0);
    }
    // The second finds what the first has read meanwhile.
    assert.equal(cached[0], HELD_TOKENS);
    assert.ok((cached[1] ?? 0) > HELD_TOKENS, `${cached[1]} tokens from the cache`);
    assert.equal(answers[0], answers[1]);
    await assert.rejects(engine.slots.restore(0, "none.bin"), { name: "RepriseError", status: 400 });
    const torn = new Uint8Array(await image.arrayBuffer()).slice(0, -1);
    await assert.rejects(engine.slots.import(0, torn), { name: "RepriseError", status: 400 });
  }),
);

test("an answer that nobody waits for any more ends, and its slot is free", { skip }, () =>
  withEngines(async (start) => {
    const engine = await start();
    for await (const { text } of engine.chat({ messages, ...greedy, maxTokens: 500 })) if (text !== "") break;
    const next = await engine.chat({ messages, ...greedy, maxTokens: 2 }).result();
    assert.equal(next.text, "1.");
    const [slot] = await engine.slots.list();
    assert.equal(slot?.is_processing, false);
    await assert.rejects(engine.chat({ messages: [{ role: "user", content: "word ".repeat(2000) }] }).result(), {
      name: "RepriseError",
      status: 400,
      type: "exceed_context_size_error",
    });
    assert.equal(await engine.detokenize(await engine.tokenize("Ashwood, é!")), "Ashwood, é!");
  }),
);

test("a model that is cut short or of another kind is refused with the reason", { skip }, () =>
  withEngines(async (start) => {
    const bytes = await readFile(modelPath());
    const refused = async (model: Uint8Array): Promise<RepriseError> => {
      const thrown: unknown = await start({ model }).catch((error: unknown) => error);
      assert.ok(thrown instanceof RepriseError, String(thrown));
      return thrown;
    };
    for (const length of [100, 1_000_000, bytes.length - 1]) {
      const { message, type } = await refused(new Uint8Array(bytes.subarray(0, length)));
      assert.match(message, /cut|end|trunc|beyond|bytes/i, `${length}: ${message}`);
      assert.notEqual(type, "internal_error");
    }
    const version = new Uint8Array(bytes.subarray(0, 100));
    version[4] = 99;
    assert.match((await refused(version)).message, /version/i);
  }),
);
