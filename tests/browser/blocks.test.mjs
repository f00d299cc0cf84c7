// Blocks of the prompt cache that outlive the page: after a clean end, damaged, in a small budget, in two tabs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Lab } from "./support.mjs";

const TEXT = "Hello there, how are you doing on this cold morning? ".repeat(6);
const OPTIONS = { persist: { automatic: false }, cacheDisk: 64, metrics: true };

let lab;

before(async () => {
  lab = await Lab.open();
});
after(() => lab.close());

test("what was asked for once is there after the engine was disposed of", async () => {
  const tab = await lab.tab();
  await tab.started(OPTIONS);
  const before = await tab.complete(TEXT);
  await dispose(tab);
  await tab.started(OPTIONS);
  const again = await tab.complete(TEXT);
  assert.deepEqual(again.placement.tiers, { slot: 0, ram: 0, disk: 128 });
  assert.equal(again.content, before.content);
  await tab.context.close();
});

test("a damaged block is computed anew, and removed", async () => {
  const tab = await lab.tab();
  await tab.started(OPTIONS);
  const before = await tab.complete(TEXT);
  await dispose(tab);
  const stored = await tab.page.evaluate(flipAll);
  assert.ok(stored >= 4, `${stored} blocks`);
  await tab.started(OPTIONS);
  const again = await tab.complete(TEXT);
  assert.deepEqual([again.timings.cache_n, again.content], [0, before.content]);
  assert.equal(await metric(tab, "cache_disk_damaged_total"), 1);
  await tab.context.close();
});

test("a budget is kept, and what was used last stays", async () => {
  const tab = await lab.tab();
  const options = { ...OPTIONS, cacheDisk: 1, context: 4096 };
  await tab.started(options);
  for (let number = 0; number < 12; number++) await tab.complete(`${number} ${TEXT}${TEXT}`, 1);
  await dispose(tab);
  await tab.started(options);
  const bytes = await metric(tab, "cache_disk_bytes");
  assert.ok(bytes > 1 << 19 && bytes <= 1 << 20, `${bytes} bytes`);
  await tab.context.close();
});

test("a tab finds what another tab stored", async () => {
  const first = await lab.tab();
  await first.started(OPTIONS);
  const before = await first.complete(TEXT);
  await first.complete(TEXT);
  await first.page.waitForFunction(async () => {
    const text = await (await bridge.engine().fetch("/metrics")).text();
    return Number(/^reprise:cache_disk_blocks (\d+)/m.exec(text)?.[1]) >= 4;
  });
  const second = await lab.tab(first.context);
  await second.started(OPTIONS);
  const again = await second.complete(TEXT);
  assert.deepEqual([again.placement.tiers.disk, again.content], [128, before.content]);
  await first.context.close();
});

function dispose(tab) {
  return tab.page.evaluate(() => bridge.engine().dispose());
}

async function metric(tab, name) {
  const text = await tab.page.evaluate(async () => (await bridge.engine().fetch("/metrics")).text());
  return Number(new RegExp(`^reprise:${name} (\\d+)`, "m").exec(text)?.[1]);
}

/** Flips a byte at the end of every stored block, past the engine; gives their number. In the page. */
async function flipAll() {
  const settled = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  const database = await settled(indexedDB.open("reprise-blocks"));
  const store = database.transaction("blocks", "readwrite").objectStore("blocks");
  const keys = await settled(store.getAllKeys());
  for (const key of keys) {
    const block = await settled(store.get(key));
    block[block.length - 1] ^= 16;
    await settled(store.put(block, key));
  }
  database.close();
  return keys.length;
}
