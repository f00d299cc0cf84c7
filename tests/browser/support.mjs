// What the browser tests share: pages with an engine in them, our server as a process, and the models.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { launch } from "../bridge/browser.mjs";
import { Site } from "../bridge/site.mjs";

const target = (name) => fileURLToPath(new URL(`../../target/${name}`, import.meta.url));

/** A generated model; `conformance --write-fixtures` makes them. */
export const fixture = (name) => join(process.env.REPRISE_FIXTURES ?? target("fixtures"), name);

export const MODEL = fixture("tiny-llama-spm.gguf");

/** Milliseconds; for machines that do other things as well. */
const PATIENCE = 120_000;

/** Greedy, and one slot, unless a test says otherwise. */
const OPTIONS = { backend: "wasm", slots: 1, context: 1024, threads: 1 };

/** A browser and an origin for a test file. */
export class Lab {
  /** @param {{ webgpu?: boolean }} options of the browser */
  static async open(options) {
    const lab = new Lab();
    [lab.site, lab.browser] = await Promise.all([Site.open(), launch(options)]);
    return lab;
  }

  async close() {
    await this.browser.close();
    await this.site.close();
  }

  /** A tab with the test page; `plain` without cross-origin isolation. Its context has its own storage. */
  async tab(context, { plain = false } = {}) {
    const own = context ?? (await this.browser.newContext());
    return Tab.open(this.site, await own.newPage(), plain);
  }
}

/** A page with at most one engine. */
export class Tab {
  static async open(site, page, plain) {
    const tab = new Tab();
    Object.assign(tab, { site, page, context: page.context() });
    page.setDefaultTimeout(PATIENCE);
    await page.goto(`${site.origin}${plain ? "/plain" : ""}/page/index.html`);
    await page.waitForFunction(() => globalThis.bridge);
    return tab;
  }

  /** Starts an engine; gives `{info}`, or `{error}` with name, status, type and message. */
  start(options = {}) {
    const model = this.site.model(MODEL);
    return this.page.evaluate((options) => bridge.start(options), { ...OPTIONS, model, ...options });
  }

  /** Starts an engine that must start. */
  async started(options) {
    const { info, error } = await this.start(options);
    if (error) throw new Error(`the engine did not start: ${JSON.stringify(error)}`);
    return info;
  }

  /** Sends JSON to the engine; gives `{status, body}`. */
  send(path, json) {
    return this.page.evaluate(
      async ([path, json]) => {
        const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(json) };
        const response = await bridge.engine().fetch(path, json === undefined ? {} : init);
        return { status: response.status, body: await response.json() };
      },
      [path, json],
    );
  }

  /** A greedy completion in slot 0 that must succeed; gives its body. */
  async complete(prompt, n_predict = 16, more = {}) {
    const { status, body } = await this.send("/completion", { prompt, n_predict, temperature: 0, id_slot: 0, ...more });
    if (status !== 200) throw new Error(`status ${status}: ${JSON.stringify(body)}`);
    return body;
  }

  /** What was told since the page was loaded, of one type. */
  events(type) {
    return this.page.evaluate((type) => bridge.events.filter((event) => event.type === type), type);
  }

  /** Waits until something of this type was told (so many times); gives the last one. */
  async told(type, count = 1) {
    const enough = ([type, count]) => bridge.events.filter((event) => event.type === type).length >= count;
    await this.page.waitForFunction(enough, [type, count]);
    return (await this.events(type)).at(-1);
  }

  async reload() {
    await this.page.reload();
    await this.page.waitForFunction(() => globalThis.bridge);
  }
}

/** Our server on a free port, with a slot folder of its own. */
export class Server {
  static async start({ model = MODEL, flags = [] } = {}) {
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), "reprise-"));
    const port = await freePort();
    server.url = `http://127.0.0.1:${port}`;
    const binary = process.env.REPRISE_SERVER ?? target("debug/reprise-server");
    const own = ["-m", model, "--port", String(port), "--threads", "1", "--slot-save-path", server.folder];
    server.process = spawn(binary, [...own, "-np", "1", "-c", "1024", ...flags], { stdio: "ignore" });
    // A test that failed does not stop it.
    process.once("exit", () => server.process.kill("SIGKILL"));
    const ended = new Promise((_, reject) => {
      server.process.on("error", reject);
      server.process.on("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    });
    ended.catch(() => {});
    await Promise.race([server.#healthy(), ended]);
    return server;
  }

  async #healthy() {
    while (!(await fetch(`${this.url}/health`).catch(() => undefined))?.ok) await sleep(20);
  }

  async send(path, json) {
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(json) };
    const response = await fetch(this.url + path, json === undefined ? {} : init);
    return { status: response.status, body: await response.json() };
  }

  async complete(prompt, n_predict = 16, more = {}) {
    return (await this.send("/completion", { prompt, n_predict, temperature: 0, id_slot: 0, ...more })).body;
  }

  async stop() {
    this.process.kill();
    await rm(this.folder, { recursive: true });
  }
}

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
