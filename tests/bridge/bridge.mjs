// `node bridge.mjs --backend webgpu|wasm [--browsers N]`: engines in Chromium for the conformance suite. Prints where it
// listens, then takes commands as JSON over HTTP until its standard input ends:
//
//   POST /start   {model, flags, slots, blocks, environment}  -> {id, url}    a page with empty storage and an engine in it
//   POST /restart {id, gently, model?, flags?}        -> {url}        the same storage, another engine
//   POST /state   {id}                                -> {alive, log}
//   POST /read    {id, name}                          -> {bytes}      a slot file, base64
//   POST /write   {id, name, bytes}                   -> {}
//   POST /remove  {id, name}                          -> {}
//   POST /hollow  {id, name}                          -> {}           something of that name that is no slot file
//   POST /stop    {id}                                -> {}
//
// `url` answers what the engine answers. A command that fails is answered with 500 and `{error}`.

import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { launch } from "./browser.mjs";
import { Instance } from "./instance.mjs";
import { Site } from "./site.mjs";

const { values } = parseArgs({
  options: { backend: { type: "string", default: "wasm" }, browsers: { type: "string", default: "1" } },
});

/** Slots must not come back by themselves after a restart: those of a server do not. One thread, as the server has. */
// Each page has a device of its own, and the software adapter compiles each shader anew: small ones, so that the suite ends.
const fixed = { backend: values.backend, persist: { automatic: false }, gpu: { rowTile: 1 } };
const defaults = ["--threads", "1"];

const site = await Site.open();
// Each has one process that compiles all pages' shaders, one after another.
const browsers = await Promise.all(
  Array.from({ length: Number(values.browsers) }, () => launch({ webgpu: values.backend !== "wasm" })),
);
const instances = new Map();
let next = 1;

const commands = {
  async start({ flags, ...request }) {
    const id = next++;
    const instance = new Instance(leastBusy(), site, fixed);
    try {
      await instance.start({ ...request, flags: [...defaults, ...flags] });
    } catch (error) {
      const { log } = await instance.state();
      await instance.stop();
      throw new Error(`${error.message}\n${log}`);
    }
    instances.set(id, instance);
    return { id, url: instance.url };
  },
  async restart({ id, flags, ...how }) {
    const instance = engine(id);
    await instance.restart({ ...how, flags: flags && [...defaults, ...flags] });
    return { url: instance.url };
  },
  state: async ({ id }) => engine(id).state(),
  read: async ({ id, name }) => ({ bytes: await engine(id).readImage(name) }),
  async write({ id, name, bytes }) {
    await engine(id).writeImage(name, bytes);
  },
  async hollow({ id, name }) {
    await engine(id).hollowImage(name);
  },
  async remove({ id, name }) {
    await engine(id).removeImage(name);
  },
  async stop({ id }) {
    const instance = engine(id);
    instances.delete(id);
    await instance.stop();
  },
};

function leastBusy() {
  const pages = (browser) => browser.contexts().length;
  return browsers.reduce((least, browser) => (pages(browser) < pages(least) ? browser : least));
}

function engine(id) {
  const instance = instances.get(id);
  if (!instance) throw new Error(`there is no engine ${id}`);
  return instance;
}

const control = createServer(async (request, response) => {
  try {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const command = commands[request.url.slice(1)];
    if (!command) throw new Error(`there is no command ${request.url}`);
    const answer = await command(JSON.parse(Buffer.concat(pieces).toString()));
    response.end(JSON.stringify(answer ?? {}));
  } catch (error) {
    response.writeHead(500).end(JSON.stringify({ error: error.message ?? String(error) }));
  }
});
control.requestTimeout = 0;
control.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${control.address().port}`));

// Whoever started the bridge holds its input open: when that ends, so does the bridge, whatever happened.
process.stdin.resume();
process.stdin.on("end", async () => {
  await Promise.all(browsers.map((browser) => browser.close()));
  process.exit(0);
});
