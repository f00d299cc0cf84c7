// One engine in one page: a browser context of its own, so that its storage is empty at first and stays over reloads.

import { Pipe } from "./pipe.mjs";
import { toOptions } from "./flags.mjs";

/** Milliseconds; for machines that do other things as well. */
const PATIENCE = 120_000;

export class Instance {
  #context;
  #page;
  #pipe;
  #site;
  #fixed;
  #started;
  #log = [];
  #alive = false;

  /**
   * @param {import("playwright-core").Browser} browser
   * @param {import("./site.mjs").Site} site
   * @param {object} fixed options that every engine of this run has
   */
  constructor(browser, site, fixed) {
    this.browser = browser;
    this.#site = site;
    this.#fixed = fixed;
  }

  /** Opens a page and starts an engine in it. */
  async start(request) {
    this.#started = request;
    this.#pipe = await Pipe.open();
    this.#context = await this.browser.newContext();
    await this.#load();
  }

  /**
   * Starts the engine again with the same storage. Gently: the page is reloaded. Else its process is killed, which runs no
   * handler of the page, and another page takes its place.
   */
  async restart({ gently, model, flags }) {
    this.#pipe.disconnect();
    this.#log.push(...(await this.#told()));
    this.#alive = false;
    this.#started = { ...this.#started, model: model ?? this.#started.model, flags: flags ?? this.#started.flags };
    if (!gently) await crash(this.#page);
    await this.#load(gently ? this.#page : undefined);
  }

  get url() {
    return this.#pipe.url;
  }

  /** Whether the page lives, and what it and the engine said, of a killed page what it said uncaught. */
  async state() {
    return { alive: this.#alive, log: [...this.#log, ...(await this.#told())].join("\n") };
  }

  async #told() {
    if (!this.#alive) return [];
    return this.#page.evaluate(() => bridge.log()).catch((error) => [String(error)]);
  }

  /** Reads a slot file as base64. */
  readImage(name) {
    return this.#page.evaluate((name) => bridge.readImage(name), name);
  }

  /** Writes a slot file, given as base64. */
  writeImage(name, bytes) {
    return this.#page.evaluate(([name, bytes]) => bridge.writeImage(name, bytes), [name, bytes]);
  }

  /** Puts something there that is no slot file. */
  hollowImage(name) {
    return this.#page.evaluate((name) => bridge.images.hollow(name), name);
  }

  removeImage(name) {
    return this.#page.evaluate((name) => bridge.images.remove(name), name);
  }

  async stop() {
    await this.#pipe?.close();
    await this.#context?.close();
  }

  async #load(existing) {
    const page = existing ?? (await this.#open());
    if (existing) await page.reload();
    await page.waitForFunction(() => globalThis.bridge);
    const { model, flags, slots, blocks, environment } = this.#started;
    const options = { slotFiles: slots, cacheDisk: blocks ? 64 : 0, ...toOptions(flags, environment), ...this.#fixed };
    const started = await page.evaluate((options) => bridge.start(options), {
      ...options,
      model: this.#site.model(model),
    });
    this.#alive = true;
    if (started.error) throw new Error(`the engine did not start: ${JSON.stringify(started.error)}`);
    this.#log.push(`running on ${JSON.stringify(started.info)}`);
    const [path, channel] = this.#site.expectChannel();
    await page.evaluate((path) => bridge.serve(path), path);
    this.#pipe.connect(await channel);
  }

  async #open() {
    const page = (this.#page = await this.#context.newPage());
    page.setDefaultTimeout(PATIENCE);
    page.on("console", (message) => this.#log.push(message.text()));
    page.on("pageerror", (error) => this.#log.push(`uncaught: ${error.message}`));
    page.on("crash", () => (this.#alive = false));
    await page.goto(`${this.#site.origin}/page/index.html`);
    return page;
  }
}

/** Kills the process of a page, as the system does when memory runs out; no handler of the page runs. */
export async function crash(page) {
  const session = await page.context().newCDPSession(page);
  const crashed = new Promise((resolve) => page.once("crash", resolve));
  // The command itself is never answered: who would answer is gone.
  session.send("Page.crash").catch(() => {});
  await crashed;
  await page.close();
}
