// The bridge with a twin of the package that tells what reached it: nothing is lost or added on the way.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { toOptions } from "./flags.mjs";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

let bridge;
let control;
let engine;

before(async () => {
  bridge = spawn(process.execPath, [path("bridge.mjs"), "--backend", "wasm"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, REPRISE_PACKAGE: path("twin") },
  });
  const { value: line } = await createInterface(bridge.stdout)[Symbol.asyncIterator]().next();
  control = line.replace("listening on ", "");
  engine = await call("start", { model: path("package.json"), flags: ["-np", "2"], slots: true, environment: {} });
});
after(async () => {
  const ended = new Promise((resolve) => bridge.once("exit", resolve));
  bridge.stdin.end();
  await ended;
});

async function call(command, json) {
  const answer = await (await fetch(`${control}/${command}`, { method: "POST", body: JSON.stringify(json) })).json();
  if (answer.error) throw new Error(answer.error);
  return answer;
}

/** A request as raw as Node's client makes them. */
function raw(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(engine.url + url, { method, headers }, (response) => {
      const { statusCode: status, headers } = response;
      response.toArray().then((pieces) => resolve({ status, headers, text: Buffer.concat(pieces).toString() }), reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

test("method, path, headers and body arrive as they were sent", async () => {
  const bytes = Buffer.from([0, 255, 10, 13, 128]);
  const { status, headers, text } = await raw("/a%20b/c?d=e%2Ff", {
    method: "PUT",
    headers: { Origin: "http://elsewhere", Cookie: "a=b", "X-Own": "1" },
    body: bytes,
  });
  const told = JSON.parse(text);
  assert.deepEqual([status, headers["x-twin"]], [207, "yes"]);
  assert.deepEqual([told.method, told.url, told.body], ["PUT", "/a%20b/c?d=e%2Ff", [...bytes]]);
  const sent = Object.fromEntries(told.headers);
  assert.deepEqual([sent.Origin, sent.Cookie, sent["X-Own"]], ["http://elsewhere", "a=b", "1"]);
  assert.equal((await raw("/empty")).status, 204);
});

test("a client that leaves aborts its request", async () => {
  const { aborted } = JSON.parse((await raw("/")).text);
  await new Promise((resolve) => {
    const sent = request(`${engine.url}/endless`, (response) => {
      response.once("data", () => {
        sent.destroy();
        resolve();
      });
      response.on("error", () => {});
    });
    sent.end();
  });
  while (JSON.parse((await raw("/")).text).aborted === aborted);
});

test("a stream that breaks is broken off, a request that throws is no answer of the engine", async () => {
  await assert.rejects(raw("/breaks"));
  const { status, text } = await raw("/throws");
  assert.equal(status, 502);
  assert.match(text, /the twin was told to/);
});

test("a restart is another page with the same storage", async () => {
  const [id, name] = [engine.id, "a"];
  await call("write", { id, name, bytes: Buffer.from("image").toString("base64") });
  for (const gently of [true, false]) {
    await call("restart", { id: engine.id, gently, flags: ["-np", "3"] });
    const { options } = JSON.parse((await raw("/")).text);
    assert.deepEqual([options.slots, options.slotFiles, options.threads], [3, true, 1]);
    assert.equal((await call("state", { id })).alive, true);
    assert.equal(Buffer.from((await call("read", { id, name })).bytes, "base64").toString(), "image");
  }
  await call("remove", { id, name });
  await assert.rejects(call("read", { id, name }), /no image 'a'/);
});

test("flags of a server are options of the package", () => {
  assert.deepEqual(toOptions(["-c", "256", "--embeddings", "--pooling", "mean", "--alias", "a,b", "--temp", "0.5"]), {
    context: 256,
    embeddings: "mean",
    aliases: ["a", "b"],
    defaults: { temperature: 0.5 },
  });
  assert.deepEqual(toOptions(["--embeddings"], { LLAMA_SERVER_SLOTS_DEBUG: "1" }), { embeddings: "none", slotsDebug: true });
  assert.throws(() => toOptions(["--flash-attn"]), /--flash-attn/);
  assert.throws(() => toOptions([], { HOME: "/" }), /HOME/);
});
