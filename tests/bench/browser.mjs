// Chromium, and the files that its pages load.
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const HERE = import.meta.dirname;
const PACKAGE = path.resolve(HERE, "../../web/dist");
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const ARGUMENTS = [
  "--headless=new", "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--enable-unsafe-webgpu", "--enable-features=Vulkan",
  "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader",
];

export class Browser {
  package = PACKAGE;

  static async start(model) {
    const browser = new Browser();
    browser.server = http.createServer((request, response) => browser.#serve(request, response, model));
    await new Promise((resolve) => browser.server.listen(0, "127.0.0.1", resolve));
    browser.origin = `http://127.0.0.1:${browser.server.address().port}`;
    browser.profile = await mkdtemp(path.join(tmpdir(), "reprise-bench-"));
    browser.context = await chromium.launchPersistentContext(browser.profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      ignoreDefaultArgs: ["--headless", "--disable-gpu"],
      args: ARGUMENTS,
    });
    return browser;
  }

  /** A fresh page, cross-origin isolated. */
  async page() {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => process.stderr.write(`page: ${error.message}\n`));
    await page.goto(`${this.origin}/page.html`);
    await page.waitForFunction(() => globalThis.ready);
    return new Page(page);
  }

  async stop() {
    await this.context.close();
    this.server.close();
    await rm(this.profile, { recursive: true, force: true });
  }

  async #serve(request, response, model) {
    const name = decodeURIComponent(new URL(request.url, this.origin).pathname);
    const roots = { "/web/": PACKAGE, "/wllama/": path.join(HERE, "node_modules/@wllama/wllama/esm") };
    const root = Object.keys(roots).find((prefix) => name.startsWith(prefix));
    const file = name === "/model.gguf" ? model : root ? path.join(roots[root], name.slice(root.length)) : path.join(HERE, name);
    const headers = {
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "cross-origin-resource-policy": "same-origin",
    };
    try {
      const { size } = await stat(file);
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const [start, end] = range ? [Number(range[1]), range[2] ? Number(range[2]) : size - 1] : [0, size - 1];
      headers["content-type"] = TYPES[path.extname(file)] ?? "application/octet-stream";
      headers["content-length"] = end - start + 1;
      headers["accept-ranges"] = "bytes";
      if (range) headers["content-range"] = `bytes ${start}-${end}/${size}`;
      response.writeHead(range ? 206 : 200, headers);
      createReadStream(file, { start, end }).pipe(response);
    } catch {
      response.writeHead(404, headers).end("not found");
    }
  }
}

class Page {
  constructor(page) {
    this.page = page;
  }

  load = (kind, options) => this.page.evaluate(([kind, options]) => bench.load(kind, "/model.gguf", options), [kind, options]);
  complete = (prompt, tokens, ignoreEnd) => this.page.evaluate((all) => bench.complete(...all), [prompt, tokens, ignoreEnd]);
  chat = (messages, tokens) => this.page.evaluate(([messages, tokens]) => bench.chat(messages, tokens), [messages, tokens]);
  info = () => this.page.evaluate(() => bench.info());
  events = () => this.page.evaluate(() => bench.events());

  /** Waits for the automatic image of the idle slot. */
  persisted() {
    return this.page.waitForFunction(() => bench.events().some((event) => event.type === "saved"), { timeout: 30_000 });
  }

  async reload() {
    await this.page.reload();
    await this.page.waitForFunction(() => globalThis.ready);
  }

  async close() {
    await this.page.evaluate(() => bench.dispose()).catch(() => {});
    await this.page.close();
  }
}
