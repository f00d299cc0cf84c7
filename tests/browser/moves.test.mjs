// One conversation that wanders: server, GPU in a page, processor in another page, server. Each goes on from the state that
// the last one exported, and the text is that of a server which had it all the time.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Lab, Server } from "./support.mjs";

const TURNS = [
  "Hello there, how are you doing on this cold morning?",
  " The river was high, and the land of France lay under water.",
  " What will you do when the water goes?",
  " The people of the land went home.",
];

let lab;
let server;
let other;

before(async () => {
  [lab, server, other] = await Promise.all([Lab.open(), Server.start(), Server.start()]);
});
after(async () => {
  await Promise.all([lab.close(), server.stop(), other.stop()]);
});

test("a conversation goes from host to host as if nothing had moved", async () => {
  const persist = { automatic: false };
  const [gpu, cpu] = [await lab.tab(), await lab.tab()];
  await gpu.started({ backend: "webgpu", persist });
  await cpu.started({ backend: "wasm", persist });
  const hosts = [new AtServer(server), new InPage(gpu), new InPage(cpu), new AtServer(server)];

  const staying = [];
  let text = "";
  for (const turn of TURNS) {
    const answer = await other.complete(text + turn);
    staying.push(answer);
    text += turn + answer.content;
  }

  text = "";
  let state;
  for (const [at, host] of hosts.entries()) {
    if (state) await host.put(state);
    const answer = await host.complete(text + TURNS[at]);
    assert.equal(answer.content, staying[at].content, `turn ${at}`);
    assert.equal(answer.timings.cache_n, staying[at].timings.cache_n, `cached tokens in turn ${at}`);
    text += TURNS[at] + answer.content;
    state = await host.take();
  }
  await Promise.all([gpu.context.close(), cpu.context.close()]);
});

class AtServer {
  constructor(server) {
    this.server = server;
  }

  complete(prompt) {
    return this.server.complete(prompt);
  }

  async take() {
    return Buffer.from(await (await fetch(`${this.server.url}/slots/0/state`)).arrayBuffer());
  }

  async put(state) {
    await this.server.send("/slots/0?action=erase", {});
    const headers = { "content-type": "application/octet-stream" };
    const response = await fetch(`${this.server.url}/slots/0/state`, { method: "PUT", headers, body: state });
    assert.equal(response.status, 200, await response.text());
  }
}

/** Through the package's own `slots.export` and `slots.import`. */
class InPage {
  constructor(tab) {
    this.tab = tab;
  }

  complete(prompt) {
    return this.tab.complete(prompt);
  }

  async take() {
    const bytes = await this.tab.page.evaluate(async () => {
      const file = await bridge.engine().slots.export(0);
      return [...new Uint8Array(await file.arrayBuffer())];
    });
    return Buffer.from(bytes);
  }

  async put(state) {
    await this.tab.page.evaluate((bytes) => bridge.engine().slots.import(0, new Uint8Array(bytes)), [...state]);
  }
}
