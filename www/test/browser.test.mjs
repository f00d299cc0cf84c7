// The engine in the page, on a plain static host: download, chat, reload, offline, and everything that can go wrong.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { launch, numbers, openPage, sayBriefly } from "./support/browser.mjs";
import { tinyModel } from "./support/env.mjs";
import { startStatic } from "./support/static.mjs";

let browser;
let folder;

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "reprise-page-"));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Waits until a model can be talked to; fails with the page's own words if it cannot be. */
async function ready(page) {
  await page.waitForFunction(() => document.querySelector(".send")?.disabled === false || document.querySelector(".chooser .trouble"));
  const trouble = page.locator(".chooser .trouble");
  if ((await trouble.count()) > 0) assert.fail(await trouble.evaluate(({ textContent }) => textContent));
}

/** Starts the model beside the page. */
async function runBundled(page) {
  await page.getByRole("button", { name: /^Download and run/ }).click();
  await ready(page);
}

test("download, chat, reload: the next turn does not read the conversation again", async () => {
  const host = await startStatic({ "models/default.gguf": tinyModel });
  const { page, close } = await openPage(browser, host.url);
  await runBundled(page);
  assert.match(await page.locator("#engine").innerText(), /(WebGPU|WebAssembly)[\s\S]*Because/);
  const first = numbers(await sayBriefly(page, "Tell me about rivers."));
  assert.equal(first.cached, 0);
  const second = numbers(await sayBriefly(page, "And about lakes?"));
  assert.ok(second.cached >= first.processed);
  const held = second.cached + second.processed;
  await page.waitForFunction(
    (tokens) => Number(/([\d\s]+) tokens/.exec(document.querySelector(".kept").textContent)?.[1].replace(/\s/g, "")) >= tokens,
    held,
  );

  await page.reload();
  await ready(page);
  await page.getByText(/tokens came back in/).first().waitFor();
  const third = numbers(await sayBriefly(page, "And about the sea?"));
  // What a random model wrote may be other tokens when it is read again; the first prompt is the same.
  assert.ok(third.cached >= first.processed, `${third.cached} tokens came back of ${held}`);
  await close();
  await host.stop();
});

test("without its host the page opens, chats, and remembers", async () => {
  const host = await startStatic({ "models/default.gguf": tinyModel });
  const { page, close } = await openPage(browser, host.url);
  await runBundled(page);
  const first = numbers(await sayBriefly(page, "Before the line was cut."));
  await page.locator(".kept").getByText("kept by itself").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready.then(({ active }) => active.state));
  await host.stop();
  await page.context().setOffline(true);

  await page.reload();
  await ready(page);
  assert.equal(await page.evaluate(() => crossOriginIsolated), true, "the service worker isolates the page");
  const second = numbers(await sayBriefly(page, "After it was cut."));
  assert.ok(second.cached >= first.processed);
  await close();
});

test("a GGUF file of the reader's runs, and is there after a reload", async () => {
  const host = await startStatic();
  const { page, close } = await openPage(browser, host.url);
  await page.locator("#model-file").setInputFiles(tinyModel);
  await ready(page);
  const first = numbers(await sayBriefly(page, "From a file."));
  await page.locator(".kept").getByText("kept by itself").waitFor();
  await page.reload();
  await ready(page);
  assert.ok(numbers(await sayBriefly(page, "Again.")).cached >= first.processed);
  await page.getByRole("button", { name: /^Delete tiny-llama-spm/ }).click();
  await page.locator(".chooser").waitFor();
  assert.equal(await page.locator(".models li").count(), 0);
  await close();
  await host.stop();
});

/** The page on a host, after one of its files or addresses was tried; what it says. */
async function told(files, act) {
  const host = await startStatic(files);
  const { page, close } = await openPage(browser, host.url);
  await page.locator(".chooser").waitFor();
  await act(page, host);
  await page.locator(".chooser .trouble").waitFor();
  const text = await page.locator(".chooser .trouble > p").innerText();
  assert.ok(await page.locator("#model-url").isVisible(), "another model can be chosen at once");
  await close();
  await host.stop();
  return text;
}

const address = (name) => async (page, host) => {
  await page.locator("#model-url").fill(new URL(name, host.url).href);
  await page.getByRole("button", { name: "Download", exact: true }).click();
};

const file = (name, bytes) => {
  const made = path.join(folder, name);
  writeFileSync(made, bytes);
  return made;
};

test("a model that is not there", async () => {
  assert.match(await told({}, address("models/none.gguf")), /There is no model at this address\..*Check the address/);
});

test("a file that is no GGUF", async () => {
  const text = file("text.gguf", "This is a letter, and no model at all. ".repeat(20));
  assert.match(await told({}, (page) => page.locator("#model-file").setInputFiles(text)), /This is not a GGUF file/);
});

test("a GGUF that is cut off", async () => {
  const whole = readFileSync(tinyModel);
  const cut = file("cut.gguf", whole.subarray(0, whole.length - 40_000));
  assert.match(await told({}, (page) => page.locator("#model-file").setInputFiles(cut)), /cut off/);
});

test("a GGUF of a kind that is not supported", async () => {
  const text = readFileSync(tinyModel).toString("latin1");
  const renamed = text.replace(/(general\.architecture.{12})llama/s, "$1alien").replaceAll("llama.", "alien.");
  const alien = file("alien.gguf", Buffer.from(renamed, "latin1"));
  assert.match(await told({}, (page) => page.locator("#model-file").setInputFiles(alien)), /This kind of model is not supported\./);
});

test("a download that breaks off, and its resumption", async () => {
  const { size, content } = { size: readFileSync(tinyModel).length, content: readFileSync(tinyModel) };
  let whole = false;
  const host = await startStatic({
    "models/big.gguf": (request, response) => {
      const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const headers = { "content-length": size - start, "accept-ranges": "bytes", etag: '"1"' };
      response.writeHead(start > 0 ? 206 : 200, { ...headers, ...(start > 0 ? { "content-range": `bytes ${start}-${size - 1}/${size}` } : {}) });
      if (whole) return response.end(content.subarray(start));
      response.write(content.subarray(start, Math.floor(size / 2)), () => setTimeout(() => response.destroy(), 50));
    },
  });
  const { page, close } = await openPage(browser, host.url);
  await page.locator(".chooser").waitFor();
  await address("models/big.gguf")(page, host);
  await page.locator(".chooser .trouble").waitFor({ timeout: 60_000 });
  assert.match(await page.locator(".models").innerText(), /have arrived/);
  whole = true;
  await page.getByRole("button", { name: /^Resume/ }).click();
  await ready(page);
  await close();
  await host.stop();
});

test("no connection", async () => {
  const text = await told({}, async (page, host) => {
    await page.evaluate(() => navigator.serviceWorker.ready.then(({ active }) => active.state));
    await page.context().setOffline(true);
    await address("models/none.gguf")(page, host);
  });
  assert.match(text, /There is no connection\./);
});

test("a slot image of another model is refused, and the slot keeps what it has", async () => {
  const host = await startStatic({ "models/default.gguf": tinyModel });
  const { page, close } = await openPage(browser, host.url);
  await runBundled(page);
  const first = numbers(await sayBriefly(page, "Something."));
  await page.locator(".slot:not(.busy) .facts").waitFor();
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.getByRole("button", { name: "Import slot 1" }).click()]);
  await chooser.setFiles({ name: "foreign.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(5000, 7) });
  await page.getByRole("alert").getByText("could not be imported").waitFor();
  assert.ok(numbers(await sayBriefly(page, "Something more.")).cached >= first.processed);
  await close();
  await host.stop();
});

test("a second tab works, and says that it does not keep its slots", async () => {
  const host = await startStatic({ "models/default.gguf": tinyModel });
  const { page, close } = await openPage(browser, host.url);
  await runBundled(page);
  const second = await page.context().newPage();
  await second.goto(host.url);
  await ready(second);
  await second.getByText("Slots are not kept.").waitFor();
  assert.ok(numbers(await sayBriefly(second, "From the second tab.")).generated > 0);
  assert.ok(numbers(await sayBriefly(page, "From the first.")).generated > 0);
  await close();
  await host.stop();
});
