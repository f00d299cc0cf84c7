// Bad input: each is an error with a status, a type and a sentence that says what is wrong; the page lives on.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { Lab, MODEL } from "./support.mjs";

let lab;
let tab;
let model;

before(async () => {
  lab = await Lab.open();
  tab = await lab.tab();
  model = await readFile(MODEL);
});
after(() => lab.close());

/** Serves bytes as a model. */
let served = 0;
const serve = (bytes) =>
  lab.site.handle(`/made/${served++}/model.gguf`, (request, response) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.end(request.method === "HEAD" ? undefined : bytes);
  });

/** Starting with these options fails like this, and an engine starts in the same page afterwards. */
async function refused(options, { status, type, says }, where = tab) {
  const { error } = await where.start(options);
  assert.ok(error, "it started");
  assert.equal(error.name, "RepriseError", JSON.stringify(error));
  assert.deepEqual({ status: error.status, type: error.type }, { status, type }, error.message);
  assert.match(error.message, says);
  return error;
}

test("a file that is no GGUF", async () => {
  const model = serve(Buffer.from("<!doctype html><title>Not found</title>".repeat(40)));
  await refused({ model }, { status: 422, type: "invalid_model_error", says: /not a GGUF file/ });
});

test("a GGUF that is cut short", async () => {
  for (const length of [20, 1000, model.length >> 1, model.length - 1]) {
    const { error } = await tab.start({ model: serve(model.subarray(0, length)) });
    assert.ok(error, `${length} bytes started`);
    assert.equal(error.name, "RepriseError");
    assert.match(error.type, /^invalid_model/, error.message);
    assert.match(error.message, /cut (short|off)|truncated/);
  }
});

test("a model that was cut short on the server is fetched again once it is whole", async () => {
  let whole = false;
  const url = lab.site.handle("/made/mended.gguf", (request, response) => {
    const bytes = whole ? model : model.subarray(0, model.length >> 1);
    response.writeHead(200, { "content-length": bytes.length, etag: whole ? '"two"' : '"one"' });
    response.end(request.method === "HEAD" ? undefined : bytes);
  });
  await refused({ model: url }, { status: 422, type: "invalid_model_error", says: /cut off|truncated/ });
  whole = true;
  await tab.started({ model: url });
});

test("an architecture that is not there", async () => {
  const other = Buffer.from(model);
  // Of the same length, so that nothing else changes; the name of the architecture stands before all keys.
  const at = other.indexOf("llama");
  other.write("nolla", at);
  await refused({ model: serve(other) }, { status: 422, type: "invalid_model_error", says: /nolla/ });
});

test("a quantisation that is not there", async () => {
  const other = Buffer.from(model);
  const name = "output.weight";
  // After the name of a tensor: the number of its dimensions, each of them in 8 bytes, its type.
  const at = other.lastIndexOf(name, other.indexOf("blk.0")) + name.length;
  other.writeUInt32LE(16, at + 4 + 8 * other.readUInt32LE(at)); // IQ2_XXS
  await refused({ model: serve(other) }, { status: 422, type: "invalid_model_error", says: /output\.weight.*(type|IQ2_XXS)/ });
});

test("no model at the URL", async () => {
  const model = `${lab.site.origin}/made/nothing.gguf`;
  await refused({ model }, { status: 404, type: "model_not_found", says: /status 404/ });
});

test("another SHA-256", async () => {
  const wrong = { url: lab.site.model(MODEL), sha256: "0".repeat(64) };
  await refused({ model: wrong }, { status: 422, type: "checksum_mismatch", says: /SHA-256/ });
});

test("a server that cannot be reached", async () => {
  const model = "http://127.0.0.1:9/model.gguf";
  await refused({ model }, { status: 502, type: "network_error", says: /cannot be downloaded/ });
});

test("offline in the middle of a download; once online it goes on from there", async () => {
  const asked = [];
  let cut = false;
  let connected;
  const half = new Promise((resolve) => (connected = resolve));
  const url = lab.site.handle("/made/slow.gguf", (request, response) => {
    // A browser may ask again before it knows that it is offline.
    if (cut) return void response.destroy();
    asked.push(request.headers.range);
    const from = Number(/\d+/.exec(request.headers.range ?? "0")[0]);
    const head = { "content-length": model.length - from, "accept-ranges": "bytes", etag: '"one"' };
    if (from > 0) head["content-range"] = `bytes ${from}-${model.length - 1}/${model.length}`;
    response.writeHead(from > 0 ? 206 : 200, head);
    if (from > 0) return void response.end(model.subarray(from));
    response.write(model.subarray(0, model.length >> 1), () => connected(response));
  });
  const tab = await lab.tab();
  const start = tab.start({ model: url });
  const response = await half;
  // What the server wrote may still be under way, and would be lost with the connection.
  await tab.page.waitForFunction(() => bridge.progress?.phase === "download" && bridge.progress.loaded > 0);
  await tab.context.setOffline(true);
  cut = true;
  response.destroy();
  const { error } = await start;
  assert.equal(error?.type, "offline", JSON.stringify(error));
  assert.match(error.message, /offline/);
  await tab.context.setOffline(false);
  cut = false;
  await tab.started({ model: url });
  assert.match(asked.at(-1), /^bytes=[1-9]/);
  await tab.context.close();
});

test("a context that is larger than the memory", async () => {
  await refused(
    { context: 2 ** 24, unified: true },
    { status: 507, type: "context_too_large_error", says: /context/ },
  );
});

test("a model that is larger than the memory", async () => {
  const options = { maxMemory: 100_000 };
  await refused(options, { status: 507, type: "model_too_large_error", says: /memory/ });
});

test("an option that is not there", async () => {
  await refused({ contexts: 7 }, { status: 400, type: "invalid_request_error", says: /contexts/ });
});

test("threads without cross-origin isolation; one thread works", async () => {
  const plain = await lab.tab(undefined, { plain: true });
  assert.equal(await plain.page.evaluate(() => crossOriginIsolated), false);
  await refused({ threads: 2 }, { status: 501, type: "not_isolated", says: /Cross-Origin-Opener-Policy/ }, plain);
  await plain.started({ threads: undefined });
  assert.equal((await plain.complete("Hello there", 4)).tokens_predicted, 4);
  await plain.context.close();
});

test("no WebGPU: an error when it is asked for, the processor when it is not", async () => {
  const without = await Lab.open({ webgpu: false });
  try {
    const tab = await without.tab();
    await refused({ backend: "webgpu" }, { status: 501, type: "no_webgpu", says: /WebGPU/ }, tab);
    const info = await tab.started({ backend: "auto" });
    assert.equal(info.backend, "wasm");
    assert.match(info.backendReason, /WebGPU|GPU|adapter/i);
  } finally {
    await without.close();
  }
});

test("of two backends the faster is taken, by times that were measured", async () => {
  const tab = await lab.tab();
  const { backend, backendReason } = await tab.started({ backend: "auto" });
  const [, gpu, cpu] = backendReason.match(/take ([\d.]+) ms on WebGPU and ([\d.]+) ms on the processor/).map(Number);
  assert.ok(gpu > 0 && cpu > 0, backendReason);
  assert.equal(backend, gpu < cpu ? "webgpu" : "wasm");
  await tab.context.close();
});

test("after all of these, the page still starts an engine", async () => {
  await tab.started();
  assert.equal((await tab.complete("Hello there", 4)).tokens_predicted, 4);
});
