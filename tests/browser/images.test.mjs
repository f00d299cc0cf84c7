// Slots that outlive the page: reloads, crashes, full storage, several tabs, damaged images.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { crash } from "../bridge/instance.mjs";
import { fixture, Lab } from "./support.mjs";

const PROMPT = "Hello there, how are you doing on this cold morning?";
const NEXT = " The river was high, and the land of France lay under water.";

let lab;

before(async () => {
  lab = await Lab.open();
});
after(() => lab.close());

for (const backend of ["wasm", "webgpu"]) {
  test(`after a reload a chat goes on where it was (${backend})`, async () => {
    const tab = await lab.tab();
    await tab.started({ backend });
    const first = await tab.complete(PROMPT);
    await tab.told("saved");
    const whole = await tab.complete(PROMPT + first.content + NEXT, 16, { cache_prompt: false });
    await tab.reload();

    await tab.started({ backend });
    const { slots } = await tab.told("restored");
    assert.equal(slots.length, 1);
    // What was saved last is the longer of the two, or the shorter when the page went before that was written.
    assert.ok([first.tokens_cached, whole.tokens_cached].includes(slots[0].tokens), JSON.stringify(slots));
    const again = await tab.complete(PROMPT + first.content + NEXT);
    assert.equal(again.content, whole.content);
    assert.ok(again.timings.cache_n >= first.tokens_cached, `${again.timings.cache_n} tokens came from the cache`);
    await tab.context.close();
  });
}

test("what another model left is not restored", async () => {
  const tab = await lab.tab();
  await tab.started();
  await tab.complete(PROMPT);
  await tab.told("saved");
  await tab.reload();
  await tab.started({ model: lab.site.model(fixture("tiny-qwen2.gguf")) });
  const slots = (await tab.events("restored")).flatMap((event) => event.slots);
  assert.deepEqual(slots, []);
  assert.equal((await tab.complete(PROMPT, 4)).timings.cache_n, 0);
  await tab.context.close();
});

test("a damaged image and one of another model are refused, and change nothing", async () => {
  const tab = await lab.tab();
  const other = await lab.tab(tab.context);
  await other.started({ model: lab.site.model(fixture("tiny-qwen2.gguf")) });
  await other.complete(PROMPT);
  await tab.started();
  await tab.complete(PROMPT);
  const foreign = await other.page.evaluate(async () => {
    const file = await bridge.engine().slots.export(0);
    return [...new Uint8Array(await file.arrayBuffer())];
  });
  const refusals = await tab.page.evaluate(async (foreign) => {
    const { slots } = bridge.engine();
    const own = new Uint8Array(await (await slots.export(0)).arrayBuffer());
    const flipped = own.slice();
    flipped[own.length >> 1] ^= 255;
    const bad = [new Uint8Array(), new TextEncoder().encode("no image"), own.slice(0, -1), flipped, new Uint8Array(foreign)];
    return Promise.all(bad.map((bytes) => slots.import(0, bytes).then(() => "taken", bridge.told)));
  }, foreign);
  for (const [at, refusal] of refusals.entries()) {
    assert.deepEqual([refusal.name, refusal.status], ["RepriseError", 400], `${at}: ${JSON.stringify(refusal)}`);
  }
  assert.equal((await tab.complete(PROMPT, 4)).timings.prompt_n, 1);
  await tab.context.close();
});

test("an automatic image that was damaged is left out at the start", async () => {
  const tab = await lab.tab();
  await tab.started();
  const { content } = await tab.complete(PROMPT);
  await tab.told("saved");
  // The page goes first: it would write the image once more.
  const { page } = tab;
  await page.evaluate(() => bridge.engine().dispose());
  await page.evaluate(async () => {
    const { images } = bridge;
    for (const name of (await images.names()).images) {
      const bytes = await images.read(name);
      bytes[bytes.length >> 1] ^= 255;
      await images.write(name, bytes);
    }
  });
  await tab.reload();
  await tab.started();
  assert.deepEqual((await tab.events("restored")).flatMap((event) => event.slots), []);
  const again = await tab.complete(PROMPT);
  assert.deepEqual([again.content, again.timings.cache_n], [content, 0]);
  await tab.context.close();
});

test("a tab that is killed while it saves leaves the old image or the new", async () => {
  const context = await lab.browser.newContext();
  const options = { persist: { automatic: false }, context: 2048 };
  const long = "The river was cold in the morning, and the land lay under water. ".repeat(24);
  let tab = await lab.tab(context);
  await tab.started(options);
  await tab.complete(PROMPT, 4);
  let kept = (await tab.send("/slots/0?action=save", { filename: "a" })).body.n_saved;
  for (const delay of [0, 1, 2, 4, 8, 16, 40, 120]) {
    // Of another length every time, so that each image can be told from the others.
    const prompt = long + "cold ".repeat(delay);
    const { tokens_cached, content } = await tab.complete(prompt, 4);
    await tab.page.evaluate((delay) => {
      const save = { method: "POST", body: JSON.stringify({ filename: "a" }), headers: { "content-type": "application/json" } };
      void bridge.engine().fetch("/slots/0?action=save", save);
      return new Promise((resolve) => setTimeout(resolve, delay));
    }, delay);
    await crash(tab.page);

    tab = await lab.tab(context);
    await tab.started(options);
    const { status, body } = await tab.send("/slots/0?action=restore", { filename: "a" });
    assert.equal(status, 200, JSON.stringify(body));
    assert.ok([kept, tokens_cached].includes(body.n_restored), `${body.n_restored} tokens after ${delay} ms`);
    kept = body.n_restored;
    assert.equal((await tab.complete(prompt, 4)).content, content);
    const { images, chunks } = await tab.page.evaluate(() => bridge.images.names());
    assert.deepEqual([images, chunks], [["a"], ["a"]]);
  }
  await context.close();
});

test("storage that is full: saving is an error, the engine goes on, and says that it keeps nothing", async () => {
  const tab = await lab.tab();
  const session = await tab.context.newCDPSession(tab.page);
  const quota = (quotaSize) => session.send("Storage.overrideQuotaForOrigin", { origin: lab.site.origin, quotaSize });
  await quota(1);
  await tab.started({ cache: false });
  const first = await tab.complete(PROMPT);
  const refusal = await tab.page.waitForFunction(() =>
    bridge.events.find(({ type, enabled }) => type === "persistence" && !enabled),
  );
  assert.match((await refusal.jsonValue()).reason, /full/);
  const { status, body } = await tab.send("/slots/0?action=save", { filename: "a" });
  assert.equal(status, 500, JSON.stringify(body));
  assert.match(body.error.message, /full/);
  assert.equal((await tab.complete(PROMPT)).content, first.content);

  // The browser looks at the quota anew when the database is opened again.
  await quota();
  await tab.reload();
  await tab.started();
  await tab.complete(PROMPT);
  await tab.told("saved");
  assert.equal((await tab.send("/slots/0?action=save", { filename: "a" })).status, 200);
  await tab.context.close();
});

test("a model that does not fit into the storage is an error that says so", async () => {
  const tab = await lab.tab();
  const session = await tab.context.newCDPSession(tab.page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: lab.site.origin, quotaSize: 1000 });
  const { error } = await tab.start();
  assert.deepEqual([error?.name, error?.type, error?.status], ["RepriseError", "storage_full", 507], error?.message);
  assert.match(error.message, /no room/);
  await tab.context.close();
});

test("a second tab reads the images of the first, and does not write", async () => {
  const context = await lab.browser.newContext();
  const [first, second] = [await lab.tab(context), await lab.tab(context)];
  await first.started();
  await first.complete(PROMPT);
  const saved = (await first.send("/slots/0?action=save", { filename: "a" })).body;
  await second.started();
  const { enabled, reason } = await second.told("persistence");
  assert.equal(enabled, false);
  assert.match(reason, /another tab/);
  const refused = await second.send("/slots/0?action=save", { filename: "a" });
  assert.equal(refused.status, 500);
  assert.match(refused.body.error.message, /another tab/);
  const { status, body } = await second.send("/slots/0?action=restore", { filename: "a" });
  assert.deepEqual([status, body.n_restored], [200, saved.n_saved]);
  assert.equal((await second.complete(PROMPT, 4)).timings.prompt_n, 1);

  const [image] = (await first.page.evaluate(() => bridge.engine().images())).filter(({ name }) => name === "a");
  assert.equal(image.tokens, saved.n_saved);
  await first.page.close();
  await second.told("persistence", 2);
  assert.equal((await second.send("/slots/0?action=save", { filename: "b" })).status, 200);
  await context.close();
});
