// OpenAI's own client with `engine.fetch` in place of the network.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import type { Engine } from "reprise";

import { ANSWER, ANSWER_TOKENS, QUESTION, skip, withEngines } from "./support/real.js";

const messages = [{ role: "user" as const, content: QUESTION }];
const greedy = { model: "any", messages, temperature: 0, max_tokens: ANSWER_TOKENS };

const clientOf = ({ fetch }: Engine): OpenAI =>
  new OpenAI({ baseURL: "http://reprise/v1", apiKey: "-", fetch, maxRetries: 0 });

test("the client lists models, chats, streams and completes", { skip }, () =>
  withEngines(async (start) => {
    const openai = clientOf(await start({ aliases: ["smollm2"] }));
    assert.deepEqual(
      (await openai.models.list()).data.map(({ id }) => id),
      ["smollm2"],
    );

    const whole = await openai.chat.completions.create(greedy);
    assert.equal(whole.choices[0]?.message.content, ANSWER);
    assert.equal(whole.usage?.completion_tokens, ANSWER_TOKENS);

    let [text, reason, tokens] = ["", "", 0];
    const stream = await openai.chat.completions.create({
      ...greedy,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const { choices, usage } of stream) {
      text += choices[0]?.delta.content ?? "";
      reason = choices[0]?.finish_reason ?? reason;
      tokens = usage?.completion_tokens ?? tokens;
    }
    assert.deepEqual([text, reason, tokens], [ANSWER, "length", ANSWER_TOKENS]);

    const completed = await openai.completions.create({
      model: "any",
      prompt: "One, two,",
      max_tokens: 4,
      temperature: 0,
    });
    assert.ok(completed.choices[0]?.text);
  }),
);

test("the client understands our errors and can stop a stream", { skip }, () =>
  withEngines(async (start) => {
    const openai = clientOf(await start());
    await assert.rejects(
      openai.chat.completions.create({ ...greedy, messages: [{ role: "user", content: "word ".repeat(2000) }] }),
      (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.type, "exceed_context_size_error");
        return true;
      },
    );
    const stream = await openai.chat.completions.create({ ...greedy, max_tokens: 500, stream: true });
    for await (const { choices } of stream) if (choices[0]?.delta.content) break;
    assert.ok(stream.controller.signal.aborted);
    const next = await openai.chat.completions.create({ ...greedy, max_tokens: 2 });
    assert.equal(next.choices[0]?.message.content, "1.");
  }),
);

test("a key that the engine asks for is the client's", { skip }, () =>
  withEngines(async (start) => {
    const engine = await start({ apiKeys: ["right"] });
    await assert.rejects(
      clientOf(engine).chat.completions.create({ ...greedy, max_tokens: 1 }),
      OpenAI.AuthenticationError,
    );
    const openai = new OpenAI({ baseURL: "http://reprise/v1", apiKey: "right", fetch: engine.fetch });
    assert.equal((await openai.chat.completions.create({ ...greedy, max_tokens: 1 })).choices.length, 1);
  }),
);
