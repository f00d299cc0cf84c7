// The model cache over a fake OPFS and a real HTTP server that breaks off, changes its file, and refuses.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, test } from "node:test";

import { RepriseError } from "reprise";
import { ModelCache, nameOf, type CacheTools } from "reprise/dist/models/cache.js";
import type { Wanted } from "reprise/dist/models/download.js";
import { MemoryFolder } from "reprise/dist/models/memory.js";
import { OpfsFolder } from "reprise/dist/models/opfs.js";
import { listRecords, removeRecord } from "reprise/dist/models/record.js";

import { FakeDirectory } from "../support/fake-opfs.js";
import { FileServer, type FileServerOptions } from "../support/file-server.js";
import { lookalike } from "../support/twin.js";

const SIZE = 300_000;
const MODEL = lookalike(SIZE);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

let directory: FakeDirectory;
let pauses: number[];
let servers: FileServer[];

beforeEach(() => {
  directory = new FakeDirectory();
  pauses = [];
  servers = [];
});
afterEach(() => Promise.all(servers.map((server) => server.stop())));

async function serverOf(options: FileServerOptions = {}, body = MODEL): Promise<FileServer> {
  const server = await FileServer.start(body, options);
  servers.push(server);
  return server;
}

function cacheWith(tools: Partial<CacheTools> = {}): ModelCache {
  return new ModelCache(new OpfsFolder(directory), {
    fetch: (url, init) => fetch(url, init),
    hasher: () => {
      const hash = createHash("sha256");
      return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
    },
    online: () => true,
    mayAskIfRange: () => true,
    pause: async (time) => void (time > 0 && pauses.push(time)),
    free: async () => undefined,
    lock: (_, body) => body(),
    ...tools,
  });
}

type Reports = [string, number, number][];

async function open(
  wanted: Wanted,
  tools: Partial<CacheTools> = {},
  signal = new AbortController().signal,
): Promise<{ bytes: Uint8Array; reports: Reports }> {
  const reports: Reports = [];
  const progress = (...report: Reports[number]): void => {
    reports.push(report);
    if (report[0] === "download") servers.forEach((server) => server.cutNow());
  };
  const source = await cacheWith(tools).open(wanted, progress, signal);
  return { bytes: await source.read(0, source.size), reports };
}

const listed = async (): Promise<object[]> =>
  (await listRecords(new OpfsFolder(directory))).map(({ model: { created: _, url: __, ...model } }) => model);

/** What a failed download must be: an error of that type, and nothing that counts as a whole file. */
async function fails(wanted: Wanted, type: string, message: RegExp, tools: Partial<CacheTools> = {}): Promise<void> {
  await assert.rejects(open(wanted, tools), (error) => {
    assert.ok(error instanceof RepriseError, String(error));
    assert.equal(error.type, type);
    assert.match(error.message, message);
    return true;
  });
  for (const { model } of await listRecords(new OpfsFolder(directory))) assert.equal(model.complete, false);
  for (const file of directory.files.values()) assert.equal(file.locked, false, "a file stayed open");
}

test("a model is downloaded once, verified, and then opened without the network", async () => {
  const server = await serverOf({ etag: '"1"' });
  const wanted = {
    url: server.url,
    sha256: sha256(MODEL).toUpperCase(),
    size: SIZE,
    headers: { authorization: "Bearer t" },
  };
  const first = await open(wanted);
  assert.deepEqual(first.bytes, MODEL);
  assert.deepEqual(first.reports.at(-1), ["download", SIZE, SIZE]);
  assert.ok(first.reports.every(([, loaded, total]) => loaded <= total));
  const again = await open({ url: server.url }, { fetch: () => assert.fail("fetched again") });
  assert.deepEqual(again.bytes, MODEL);
  assert.deepEqual(again.reports, []);
  assert.deepEqual(server.seen, [{ range: undefined, ifRange: undefined, authorization: "Bearer t" }]);
  assert.deepEqual(await listed(), [
    { name: "tiny model.gguf", size: SIZE, loaded: SIZE, complete: true, sha256: sha256(MODEL) },
  ]);
  assert.equal(await removeRecord(new OpfsFolder(directory), server.url), true);
  assert.equal(await removeRecord(new OpfsFolder(directory), server.url), false);
  assert.equal(directory.files.size, 0);
});

test("a connection that breaks is taken up where it was, by the strong ETag", async () => {
  const server = await serverOf({
    etag: '"1"',
    lastModified: "Wed, 21 Oct 2015 07:28:00 GMT",
    cuts: [100_000, 50_000],
  });
  const { bytes } = await open({ url: server.url });
  assert.deepEqual(bytes, MODEL);
  assert.equal(server.seen.length, 3);
  const starts = server.seen.map(({ range }) => Number(/\d+/.exec(range ?? "0")?.[0]));
  assert.ok(starts[0] === 0 && starts[1]! > 0 && starts[2]! > starts[1]!, String(starts));
  assert.deepEqual(
    server.seen.map(({ ifRange }) => ifRange),
    [undefined, '"1"', '"1"'],
  );
  assert.equal(pauses.length, 2);
});

test("a weak ETag is no promise: the date is used", async () => {
  const date = "Wed, 21 Oct 2015 07:28:00 GMT";
  const server = await serverOf({ etag: 'W/"1"', lastModified: date, cuts: [100_000] });
  assert.deepEqual((await open({ url: server.url })).bytes, MODEL);
  assert.equal(server.seen[1]?.ifRange, date);
});

test("another origin is not sent If-Range; its validators are compared instead", async () => {
  const server = await serverOf({ etag: '"1"', cuts: [100_000, 0] });
  const foreign = { mayAskIfRange: () => false };
  const changed = lookalike(SIZE).reverse();
  changed.set(MODEL.subarray(0, 4));
  const begun = open(
    { url: server.url },
    {
      ...foreign,
      pause: async () => {
        // While the client waits, the file is replaced.
        if (server.seen.length === 1) [server.body, server.options.etag] = [changed, '"2"'];
      },
    },
  );
  assert.deepEqual((await begun).bytes, changed);
  assert.ok(server.seen.every(({ ifRange }) => ifRange === undefined));
  assert.equal(server.seen.at(-1)?.range, undefined);
});

test("a part of an earlier visit is checked and gone on with", async () => {
  const server = await serverOf({ etag: '"1"', cuts: [100_000, 0, 0, 0, 0] });
  await fails({ url: server.url }, "network_error", /cannot be downloaded.*\d+ bytes are kept/);
  assert.equal(server.seen.length, 5);
  const [part] = await listRecords(new OpfsFolder(directory));
  assert.equal(part?.model.size, SIZE);
  assert.ok(part!.model.loaded > 0 && part!.model.loaded < SIZE);
  const { bytes, reports } = await open({ url: server.url, sha256: sha256(MODEL) });
  assert.deepEqual(bytes, MODEL);
  assert.deepEqual(reports[0], ["verify", part!.model.loaded, part!.model.loaded]);
  assert.equal(server.seen.at(-1)?.range, `bytes=${part!.model.loaded}-`);
});

test("a part is of no use when the server knows no ranges, or it fits the file no more", async () => {
  const plain = await serverOf({ etag: '"1"', ranges: false, cuts: [100_000] });
  assert.deepEqual((await open({ url: plain.url })).bytes, MODEL);

  const shrinking = await serverOf({ etag: '"1"', cuts: [200_000, 0] });
  const small = lookalike(1000);
  const { bytes } = await open(
    { url: shrinking.url },
    {
      mayAskIfRange: () => false,
      pause: async () => {
        if (shrinking.seen.length === 1) shrinking.body = small;
      },
    },
  );
  assert.deepEqual(bytes, small);
});

test("a file with another SHA-256 or size is never kept", async () => {
  const server = await serverOf({ etag: '"1"' });
  await fails(
    { url: server.url, sha256: "0".repeat(64) },
    "checksum_mismatch",
    /has the SHA-256 [0-9a-f]{64}, not 0{64}/,
  );
  assert.equal(directory.files.size, 0);
  await fails({ url: server.url, size: SIZE + 1 }, "size_mismatch", /300000 bytes, not 300001/);
  const silent = await serverOf({ chunked: true });
  await fails({ url: silent.url, size: SIZE - 1 }, "size_mismatch", /300000 bytes, not 299999/);
  assert.equal(directory.files.size, 0);
});

test("a kept file that is not the wanted one is fetched anew", async () => {
  const server = await serverOf();
  await open({ url: server.url });
  const changed = lookalike(2000);
  server.body = changed;
  assert.deepEqual((await open({ url: server.url })).bytes, MODEL);
  assert.deepEqual((await open({ url: server.url, sha256: sha256(changed) })).bytes, changed);
});

test("a resumed file of another version is found out by its SHA-256 and fetched from the start", async () => {
  const server = await serverOf({ cuts: [100_000, 0, 0, 0, 0] });
  await fails({ url: server.url, sha256: sha256(MODEL) }, "network_error", /./);
  const [data] = [...directory.files].filter(([name]) => name.endsWith(".gguf"));
  data![1].bytes[50_000]! ^= 1;
  assert.deepEqual((await open({ url: server.url, sha256: sha256(MODEL) })).bytes, MODEL);
});

test("a torn record, a file that lost bytes, and data without a record count for nothing", async () => {
  const server = await serverOf({ etag: '"1"' });
  const file = (end: string) => [...directory.files].find(([name]) => name.endsWith(end))![1];
  await open({ url: server.url });
  file(".json").bytes = file(".json").bytes.slice(0, -5);
  assert.deepEqual(await listed(), []);
  assert.deepEqual((await open({ url: server.url })).bytes, MODEL);
  file(".gguf").bytes = file(".gguf").bytes.slice(0, -5);
  assert.equal((await listRecords(new OpfsFolder(directory)))[0]?.model.complete, false);
  assert.deepEqual((await open({ url: server.url })).bytes, MODEL);
  assert.equal(server.seen.length, 3);
});

test("404, refusals, broken servers and no network each say what they are", async () => {
  const server = await serverOf({ statuses: [404, 410, 403, 500, 503, 500, 500, 500] });
  await fails({ url: server.url }, "model_not_found", /no model at http.*status 404/);
  await fails({ url: server.url }, "model_not_found", /status 410/);
  await fails({ url: server.url }, "network_error", /refused with status 403: it needs a token/);
  await fails({ url: server.url }, "network_error", /status 500/);
  assert.equal(server.seen.length, 8);
  const unreachable = async (): Promise<Response> => {
    throw new TypeError("Failed to fetch");
  };
  await fails({ url: server.url }, "network_error", /Failed to fetch/, { fetch: unreachable });
  await fails({ url: server.url }, "offline", /You are offline/, { fetch: unreachable, online: () => false });
  await fails({ url: "kept:no.gguf" }, "model_not_found", /No file is kept/);
  assert.equal(directory.files.size, 0);
});

test("what is no GGUF ends at its first bytes", async () => {
  const page = new TextEncoder().encode("<!doctype html>".padEnd(SIZE));
  const server = await serverOf({}, page);
  await fails({ url: server.url }, "invalid_model_error", /not a GGUF file: it begins with "<!doctype html>/);
  await fails({ url: (await serverOf({}, new Uint8Array())).url }, "invalid_model_error", /empty file/);
  assert.equal(directory.files.size, 0);
});

test("storage that is too small is told before the download, or when it fills up", async () => {
  const server = await serverOf({ etag: '"1"' });
  await fails({ url: server.url }, "storage_full", /needs 300000 bytes; 1000 are free/, { free: async () => 1000 });
  directory.quota = 200_000;
  for (const lies of [undefined, "at once", "until closed"] as const) {
    directory.lies = lies;
    await fails({ url: server.url }, "storage_full", /no room in this browser's storage/);
    assert.equal(directory.files.size, 0);
  }
});

test("cancelling keeps the part", async () => {
  const server = await serverOf({ etag: '"1"', cuts: [150_000] });
  const abort = new AbortController();
  const begun = open({ url: server.url }, { pause: async () => abort.abort(new Error("not now")) }, abort.signal);
  await assert.rejects(begun, /not now/);
  const [part] = await listRecords(new OpfsFolder(directory));
  assert.ok(part!.model.loaded > 0 && !part!.model.complete);
});

test("a file of the user is kept under its name", async () => {
  const cache = cacheWith();
  const reports: Reports = [];
  const source = await cache.keep(
    "my model.gguf",
    new Blob([MODEL]),
    (...report) => reports.push(report),
    new AbortController().signal,
  );
  assert.deepEqual(await source.read(0, source.size), MODEL);
  assert.deepEqual(reports.at(-1), ["download", SIZE, SIZE]);
  assert.deepEqual((await open({ url: "kept:my model.gguf" })).bytes, MODEL);
  const other = lookalike(5000);
  await cache.keep("my model.gguf", new Blob([other]), () => undefined, new AbortController().signal);
  assert.deepEqual((await open({ url: "kept:my model.gguf" })).bytes, other);
});

test("a file that another tab writes is not touched", async () => {
  const server = await serverOf({ etag: '"1"' });
  await open({ url: server.url });
  const [name] = [...directory.files.keys()].filter((name) => name.endsWith(".gguf"));
  directory.files.get(name!)!.locked = true;
  await assert.rejects(open({ url: server.url, sha256: "1".repeat(64) }));
  assert.deepEqual(directory.files.get(name!)!.bytes, MODEL);
});

test("memory stands in where there is no OPFS, over the borders of its pieces too", async () => {
  const folder = new MemoryFolder();
  const file = await folder.open("a");
  const piece = 16 * 1024 * 1024;
  const bytes = lookalike(5000);
  file.write(new Uint8Array(piece - 1000), 0);
  file.write(bytes, piece - 1000);
  const source = await folder.source("a");
  assert.equal(source?.size, piece + 4000);
  assert.deepEqual(await source?.read(piece - 1000, 5000), bytes);
  assert.throws(() => file.read(piece, 4001), RangeError);
  assert.throws(() => file.write(bytes, piece + 4001), RangeError);
  file.truncate(piece);
  assert.deepEqual(file.read(piece - 1000, 1000), bytes.slice(0, 1000));
  await folder.remove("a");
  assert.equal(await folder.source("a"), undefined);
});

test("names come from the path of a URL", () => {
  assert.equal(nameOf("https://x.example/a/b%20c.gguf?download=true#x"), "b c.gguf");
  assert.equal(nameOf("https://x.example/a/%zz.gguf"), "%zz.gguf");
  assert.equal(nameOf("kept:a b.gguf"), "a b.gguf");
  assert.equal(nameOf("/models/m.gguf"), "m.gguf");
});
