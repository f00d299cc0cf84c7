// A GPU device that is lost, as drivers lose theirs: what runs fails with a reason, what comes later finds its slots.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Lab } from "./support.mjs";

const PROMPT = "Hello there, how are you doing on this cold morning?";

let lab;

before(async () => {
  lab = await Lab.open();
});
after(() => lab.close());

test("a lost device: running requests fail, the slots come back, the text is the same", async () => {
  const tab = await lab.tab();
  await tab.started({ backend: "webgpu", contextShift: true });
  const first = await tab.complete(PROMPT);
  await tab.told("saved");

  const broken = await tab.page.evaluate(async (prompt) => {
    const json = { prompt, n_predict: -1, temperature: 0, id_slot: 0, stream: true };
    const response = await bridge.engine().fetch("/completion", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(json),
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    await reader.read();
    await bridge.engine().loseDevice();
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) rest += piece.value;
    return rest;
  }, PROMPT);
  assert.match(broken, /"code":503/);
  assert.match(broken, /GPU device was lost/);

  const { message } = await tab.told("device-lost");
  assert.match(message, /lost|destroyed/);
  const { slots } = await tab.told("device-restored");
  assert.equal(slots.length, 1);
  const again = await tab.complete(PROMPT);
  assert.equal(again.content, first.content);
  assert.equal(again.timings.prompt_n, 1, "the prompt came from the image");
  await tab.context.close();
});

test("a device that is lost again and again is replaced every time", async () => {
  const tab = await lab.tab();
  await tab.started({ backend: "webgpu" });
  const { content } = await tab.complete(PROMPT, 8);
  for (let time = 1; time <= 3; time++) {
    await tab.page.evaluate(() => bridge.engine().loseDevice());
    await tab.told("device-restored", time);
    assert.equal((await tab.complete(PROMPT, 8)).content, content);
  }
  await tab.context.close();
});
