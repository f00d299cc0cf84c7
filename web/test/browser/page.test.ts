// The library in a real page, with the scripted module: OPFS, errors, the page's events, and the service-worker recipe.

import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser, BrowserContext, Page } from "playwright-core";

import { FileServer, type FileServerOptions } from "../support/file-server.js";
import { launch, StaticServer } from "../support/chromium.js";
import { installPackage } from "../support/package.js";
import { lookalike, withFolder } from "../support/twin.js";

const SIZE = 200_000;
const MODEL = lookalike(SIZE);

let browser: Browser;
before(async () => {
  browser = await launch();
});
after(async () => {
  await browser.close();
  await Promise.all(files.map((server) => server.stop()));
});

const files: FileServer[] = [];
/** A server of model files; stopped in the end. */
async function filesOf(options: FileServerOptions = {}): Promise<FileServer> {
  const server = await FileServer.start(MODEL, options);
  files.push(server);
  return server;
}

interface Site {
  folder: string;
  server: StaticServer;
  context: BrowserContext;
  open(): Promise<Page>;
}

/** A site with the package under `/reprise/`, a model, and a browser profile of its own. */
function withSite(body: (site: Site) => Promise<void>, isolated = true): () => Promise<void> {
  return () =>
    withFolder(async (folder) => {
      const dist = join(await installPackage(folder), "dist");
      await writeFile(join(folder, "index.html"), "<!doctype html><title>page</title>");
      await writeFile(join(folder, "model.gguf"), MODEL);
      await writeFile(join(folder, "page.html"), "<!doctype html>not found, politely");
      const server = await StaticServer.start({ "/reprise/": dist, "/": folder }, isolated);
      const context = await browser.newContext();
      const open = async (): Promise<Page> => {
        const page = await context.newPage();
        await page.goto(server.url);
        return page;
      };
      try {
        await body({ folder, server, context, open });
      } finally {
        await context.close();
        await server.stop();
      }
    });
}

/** Runs a script with the library as `reprise`; gives its value, or the error as an object. */
function inPage<T>(page: Page, script: string): Promise<T> {
  return page.evaluate(`(async () => {
    const reprise = await import("/reprise/index.js");
    const { createEngine, listModels, deleteModel } = reprise;
    try { ${script} } catch (error) {
      return { error: error.name, type: error.type, status: error.status, message: error.message };
    }
  })()`);
}

interface Failed {
  error: string;
  type: string;
  status: number;
  message: string;
}

test(
  "a model is kept in OPFS: no second download, not even after a reload",
  withSite(async ({ server, open }) => {
    const page = await open();
    const start = `const phases = [];
    const engine = await createEngine({ model: "/model.gguf", onProgress: ({ phase }) => phases.push(phase) });
    await engine.dispose();
    return [...new Set(phases)];`;
    assert.deepEqual(await inPage(page, start), ["download", "load"]);
    await page.reload();
    assert.deepEqual(await inPage(page, start), ["load"]);
    assert.equal(server.seen.filter((path) => path === "/model.gguf").length, 1);
    const [kept] = await inPage<Record<string, unknown>[]>(page, "return listModels();");
    assert.deepEqual([kept?.["name"], kept?.["size"], kept?.["complete"]], ["model.gguf", SIZE, true]);
    assert.deepEqual(
      await inPage(
        page,
        'return [await deleteModel("/model.gguf"), await deleteModel("/model.gguf"), await listModels()];',
      ),
      [true, false, []],
    );
    const uncached = `const engine = await createEngine({ model: "/model.gguf", cache: false }); await engine.dispose(); return listModels();`;
    assert.deepEqual(await inPage(page, uncached), []);
  }),
);

test(
  "another origin: refused when it does not allow the page, resumed without asking for more when it does",
  withSite(async ({ open }) => {
    const page = await open();
    const start = (url: string): string =>
      `const engine = await createEngine({ model: ${JSON.stringify(url)}, onProgress: () => globalThis.progressed?.() }); await engine.dispose(); return listModels();`;
    const closed = await filesOf();
    const refused = await inPage<Failed>(page, start(closed.url));
    assert.deepEqual([refused.type, refused.error], ["network_error", "RepriseError"]);
    assert.match(refused.message, /server does not allow this page/);

    const allowing = await filesOf({
      cors: true,
      etag: '"1"',
      lastModified: "Wed, 21 Oct 2015 07:28:00 GMT",
      cuts: [100_000],
    });
    await page.exposeFunction("progressed", () => allowing.cutNow());
    const [kept] = await inPage<Record<string, unknown>[]>(page, start(allowing.url));
    assert.deepEqual([kept?.["complete"], kept?.["size"]], [true, SIZE]);
    assert.deepEqual(
      allowing.seen.map(({ ifRange }) => ifRange),
      [undefined, undefined],
    );
    assert.match(allowing.seen[1]?.range ?? "", /^bytes=[1-9]\d*-$/);
  }),
);

test(
  "two tabs that want one model download it once",
  withSite(async ({ server, open }) => {
    const [one, two] = [await open(), await open()];
    const start = `const engine = await createEngine({ model: "/model.gguf" }); await engine.dispose(); return "started";`;
    assert.deepEqual(await Promise.all([inPage(one, start), inPage(two, start)]), ["started", "started"]);
    assert.equal(server.seen.filter((path) => path === "/model.gguf").length, 1);
  }),
);

test(
  "a dropped file works at once, and is there after a reload when it is to be kept",
  withSite(async ({ open }) => {
    const page = await open();
    const dropped = `const bytes = await (await fetch("/model.gguf")).arrayBuffer();
    const file = new File([bytes], "dropped file.gguf");`;
    const name = "const { model } = await engine.info(); await engine.dispose(); return model.name;";
    assert.equal(
      await inPage(page, `${dropped} const engine = await createEngine({ model: file }); ${name}`),
      "dropped file.gguf",
    );
    assert.deepEqual(await inPage(page, "return listModels();"), []);
    assert.equal(
      await inPage(page, `${dropped} const engine = await createEngine({ model: file, cache: true }); ${name}`),
      "dropped file.gguf",
    );
    await page.reload();
    const reopened = `const [{ url }] = await listModels(); const engine = await createEngine({ model: url }); ${name}`;
    assert.equal(await inPage(page, reopened), "dropped file.gguf");
  }),
);

test(
  "what cannot start says why",
  withSite(async ({ folder, open }) => {
    const page = await open();
    const fails = (options: string): Promise<Failed> => inPage(page, `await createEngine({ ${options} });`);
    const expect = async (options: string, type: string, message: RegExp): Promise<void> => {
      const failed = await fails(options);
      assert.equal(failed.type, type, failed.message);
      assert.match(failed.message, message);
    };
    await expect('model: "/none.gguf"', "model_not_found", /no model at http.*none\.gguf \(status 404\)/);
    await expect('model: "/page.html"', "invalid_model_error", /not a GGUF file: it begins with "<!doctype html>n"/);
    await expect(`model: { url: "/model.gguf", sha256: "${"0".repeat(64)}" }`, "checksum_mismatch", /has the SHA-256/);
    await expect('model: { url: "/model.gguf", size: 5 }', "size_mismatch", /200000 bytes, not 5/);
    await expect('model: "/model.gguf", backend: "webgpu"', "no_webgpu", /WebGPU/);
    await expect('model: "kept:gone.gguf"', "model_not_found", /No file is kept/);
    await expect('model: "/model.gguf", assets: "/elsewhere"', "worker_error", /worker could not be started.*assets/);
    await rm(join(folder, "node_modules/reprise/dist/wasm"), { recursive: true });
    await expect('model: "/model.gguf"', "worker_error", /own file .*reprise.* cannot be loaded/);
  }),
);

test(
  "a full storage is told as one, and nothing half-written stays",
  withSite(async ({ server, context, open }) => {
    const page = await open();
    const devtools = await context.newCDPSession(page);
    await devtools.send("Storage.overrideQuotaForOrigin", { origin: server.url, quotaSize: 50_000 });
    const failed = await inPage<Failed>(page, 'await createEngine({ model: "/model.gguf" });');
    assert.deepEqual([failed.type, failed.status], ["storage_full", 507], failed.message);
    assert.deepEqual(await inPage(page, "return listModels();"), []);
    const started =
      'const engine = await createEngine({ model: "/model.gguf", cache: false }); await engine.dispose(); return "started";';
    assert.equal(await inPage(page, started), "started");
  }),
);

test(
  "offline, a kept model starts and another one says that it cannot be fetched",
  withSite(async ({ folder, server, context, open }) => {
    await writeFile(
      join(folder, "sw.js"),
      `addEventListener("install", () => skipWaiting());
    addEventListener("activate", (event) => event.waitUntil(clients.claim()));
    addEventListener("fetch", (event) => event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request))));`,
    );
    const page = await open();
    const start =
      'const engine = await createEngine({ model: "/model.gguf" }); await engine.dispose(); return "started";';
    assert.equal(await inPage(page, start), "started");
    const files = [...new Set(server.seen)].filter((path) => path.startsWith("/reprise/"));
    await inPage(
      page,
      `await (await caches.open("v1")).addAll(${JSON.stringify(files)});
    await navigator.serviceWorker.register("/sw.js");
    if (!navigator.serviceWorker.controller) await new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }));`,
    );
    await context.setOffline(true);
    await server.stop();
    assert.equal(await inPage(page, start), "started");
    const failed = await inPage<Failed>(page, 'await createEngine({ model: "/other.gguf" });');
    assert.deepEqual([failed.type, failed.status], ["offline", 503], failed.message);
    assert.match(failed.message, /You are offline/);
  }),
);

test(
  "threads that were asked for need an isolated page; without being asked one is enough",
  withSite(async ({ open }) => {
    const page = await open();
    const failed = await inPage<Failed>(
      page,
      'await createEngine({ model: "/model.gguf", backend: "wasm", threads: 4 });',
    );
    assert.deepEqual([failed.type, failed.status], ["not_isolated", 501]);
    assert.match(failed.message, /Cross-Origin-Opener-Policy: same-origin/);
    const one =
      'const engine = await createEngine({ model: "/model.gguf" }); const { threads } = await engine.info(); await engine.dispose(); return threads;';
    assert.equal(await inPage(page, one), 1);
  }, false),
);

test(
  "slots are saved when the page is hidden or left",
  withSite(async ({ open }) => {
    const page = await open();
    const saves = `const engine = await createEngine({ model: "/model.gguf" });
    const count = async () => (await engine.info()).persisted;
    const counts = [await count()];
    const hide = (state) => {
      Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    };
    hide("hidden"); counts.push(await count());
    hide("visible"); counts.push(await count());
    dispatchEvent(new PageTransitionEvent("pagehide")); counts.push(await count());
    await engine.dispose();
    dispatchEvent(new PageTransitionEvent("pagehide"));
    return counts;`;
    assert.deepEqual(await inPage(page, saves), [0, 1, 1, 2]);
  }),
);

test(
  "a service worker answers /v1/* from the page's engine",
  withSite(async ({ folder, open }) => {
    await writeFile(
      join(folder, "sw.js"),
      `import { answerFromEngine } from "/reprise/service-worker.js";
    addEventListener("install", () => skipWaiting());
    addEventListener("activate", (event) => event.waitUntil(clients.claim()));
    addEventListener("fetch", (event) => answerFromEngine(event));`,
    );
    const page = await open();
    const ready = `await navigator.serviceWorker.register("/sw.js", { type: "module" });
    if (!navigator.serviceWorker.controller) await new Promise((done) => navigator.serviceWorker.addEventListener("controllerchange", done, { once: true }));`;
    const ask = `const response = await fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ stream: true, messages: [{ role: "user", content: "through the worker" }] }) });`;
    const nobody = await inPage<{ status: number; error: { code: number } }>(
      page,
      `${ready} ${ask} return { status: response.status, ...(await response.json()) };`,
    );
    assert.deepEqual([nobody.status, nobody.error.code], [503, 503]);

    const expose = `globalThis.engine = await createEngine({ model: "/model.gguf" });
    globalThis.exposed = reprise.exposeToServiceWorker(engine);`;
    const text = await inPage<string>(page, `${expose} ${ask} return response.text();`);
    assert.equal(text.match(/data: /g)?.length, 7);
    assert.match(text, /"content":" worker".*\[DONE\]/s);

    const other = await open();
    const client = "const client = reprise.connect({ baseURL: location.origin });";
    const chat = `${client} return (await client.chat({ messages: [{ role: "user", content: "from another tab" }] }).result()).text;`;
    assert.equal(await inPage(other, chat), "from another tab");
    const untouched = 'return (await fetch("/model.gguf")).status;';
    assert.equal(await inPage(other, untouched), 200);

    await inPage(page, "exposed.unsubscribe(); await engine.dispose();");
    assert.equal((await inPage<Failed>(other, chat)).status, 503);
  }),
);
