// Slot images as files in Node.

import assert from "node:assert/strict";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { SlotFolder } from "reprise/dist/node/slot-files.js";

import { withFolder } from "../support/twin.js";

test("images are put, got, listed and removed; names with a slash are folders", () =>
  withFolder(async (folder) => {
    const store = new SlotFolder(join(folder, "slots"));
    assert.deepEqual(await store.list(), []);
    assert.equal(await store.put("notes é.bin", [new Uint8Array([1]), new Uint8Array(), new Uint8Array([2, 3])]), 3);
    assert.equal(await store.put("auto/0123456789abcdef/0", [new Uint8Array([4])]), 1);
    assert.equal(await store.put("notes é.bin", [new Uint8Array([5])]), 1);
    await writeFile(join(folder, "slots", ".reprise-tmp-1-x"), "half");
    assert.deepEqual(await store.list(), ["auto/0123456789abcdef/0", "notes é.bin"]);
    assert.deepEqual([...(await store.get("notes é.bin"))!], [5]);
    assert.equal(await store.get("other"), undefined);
    assert.deepEqual([await store.remove("notes é.bin"), await store.remove("notes é.bin")], [true, false]);
  }));

test("no name leaves the folder", () =>
  withFolder(async (folder) => {
    const store = new SlotFolder(join(folder, "slots"));
    for (const name of ["../up", "a/../../up", "/etc/x", "a//b", "", ".", "a\\b", "a\0b"]) {
      await assert.rejects(store.put(name, []), /no name/, name);
      await assert.rejects(store.get(name), /no name/, name);
    }
    assert.deepEqual(await readdir(folder), []);
  }));

test("a failed write leaves the old image and nothing else", () =>
  withFolder(async (folder) => {
    const store = new SlotFolder(folder);
    await store.put("a/b", [new Uint8Array([1])]);
    await assert.rejects(store.put("a", [new Uint8Array([2])]));
    assert.deepEqual(await store.list(), ["a/b"]);
    assert.deepEqual(await readdir(folder), ["a"]);
  }));
