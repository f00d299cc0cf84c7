// The page on a server: chat, stop, slots, reload.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, numbers, openPage, say } from "./support/browser.mjs";
import { startServer } from "./support/server.mjs";
import { startStatic } from "./support/static.mjs";

let browser;
let server;

before(async () => {
  [browser, server] = await Promise.all([launch(), startServer({ flags: ["-n", "24"] })]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const open = (options) => openPage(browser, server.url, options);

test("a second turn takes the first from the cache, and says so", async () => {
  const { page, close } = await open();
  const first = numbers(await say(page, "Tell me about rivers."));
  assert.equal(first.cached, 0);
  assert.ok(first.processed > 0 && first.generated > 0);
  const second = numbers(await say(page, "And about lakes?"));
  assert.ok(second.cached >= first.processed, `${second.cached} of ${first.processed} came back`);
  const card = page.locator(".slot", { hasText: "First word" }).first();
  await card.waitFor();
  assert.match(await card.innerText(), /Chosen because/);
  assert.match(await card.locator(".bar").getAttribute("aria-label"), /from the cache/);
  await close();
});

test("stop ends the answer and keeps what came", async () => {
  const long = await startServer({ flags: ["-n", "-1", "--context-shift"] });
  const { page, close } = await openPage(browser, long.url);
  await page.locator("#message").fill("Go on for ever.");
  await page.getByRole("button", { name: "Send" }).click();
  await page.waitForFunction(() => (document.querySelector(".writing .text")?.textContent.length ?? 0) > 20);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator(".receipt").waitFor();
  assert.match(await page.locator(".receipt").innerText(), /stopped/);
  await page.waitForFunction(async () => (await (await fetch("slots")).json()).every((slot) => !slot.is_processing));
  assert.ok((await page.locator(".assistant .text").innerText()).length > 20);
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  await close();
  await long.stop();
});

test("the conversation is there after a reload, and its tokens are still in the slot", async () => {
  const { page, close } = await open();
  const first = numbers(await say(page, "Remember the word heron."));
  const before = await page.locator(".transcript .text").allInnerTexts();
  await page.reload();
  await page.locator(".receipt").waitFor();
  assert.deepEqual(await page.locator(".transcript .text").allInnerTexts(), before);
  await page.waitForFunction(() => !document.querySelector(".send").disabled);
  const second = numbers(await say(page, "Which word?"));
  assert.ok(second.cached >= first.processed);
  await close();
});

test("a slot is saved, erased, restored, exported and imported", async () => {
  const { page, close } = await open();
  await say(page, "Something to keep.");
  const slot = page.locator(".slot", { has: page.locator(".facts") }).first();
  const fill = () => slot.locator(".slot-fill").innerText();
  const id = (await slot.locator("h3").innerText()).replace("Slot ", "");
  // The receipt comes before the next look at the slots: a look in the middle of the answer would count too few.
  const counted = async ([at, digits]) => {
    const slots = await (await fetch("slots")).json();
    const shown = document.querySelectorAll(".slot-fill")[at].textContent.split("/")[0].replace(new RegExp(digits, "g"), "");
    return slots.every((one) => !one.is_processing) && Number(shown) === slots[at].n_prompt_tokens;
  };
  await page.waitForFunction(counted, [Number(id), "[^0-9]"]);
  const held = await fill();
  const act = (name) => page.getByRole("button", { name: `${name} slot ${id}` }).click();

  await act("Save");
  await page.getByLabel("Name").fill("kept");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText(/is saved as kept/).first().waitFor();

  const [download] = await Promise.all([page.waitForEvent("download"), act("Export")]);
  const file = await download.path();
  assert.ok(readFileSync(file).length > 1000);

  const holds = (text) =>
    page.waitForFunction(([at, wanted]) => document.querySelectorAll(".slot-fill")[at].textContent === wanted, [Number(id), text]);
  const empty = held.replace(/^[^/]*/, "0 ");
  await act("Erase");
  await page.getByText(`Slot ${id} is empty.`).first().waitFor();
  await holds(empty);

  await act("Restore");
  await page.getByLabel("Name").fill("kept");
  await page.getByRole("dialog").getByRole("button", { name: "Restore" }).click();
  await page.getByText(/restored in/).first().waitFor();
  await holds(held);

  await act("Erase");
  await holds(empty);
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), act("Import")]);
  await chooser.setFiles(file);
  await holds(held);

  const [again] = await Promise.all([page.waitForEvent("filechooser"), act("Import")]);
  await again.setFiles({ name: "no-slot.bin", mimeType: "application/octet-stream", buffer: Buffer.from("not a slot image") });
  await page.getByRole("alert").getByText("could not be imported").waitFor();
  await holds(held);
  await close();
});

test("several chats are kept apart", async () => {
  const { page, close } = await open();
  await say(page, "First subject.");
  await page.getByRole("button", { name: "New chat" }).click();
  await page.locator(".hello").waitFor();
  assert.equal(await page.locator(".transcript > li").count(), 0);
  await say(page, "Second subject.");
  await page.locator(".menu summary").click();
  await page.getByRole("button", { name: "First subject." }).click();
  await page.locator(".transcript").getByText("First subject.").waitFor();
  await page.locator(".menu summary").click();
  await page.getByRole("button", { name: "Delete this chat" }).click();
  await page.locator(".transcript").getByText("Second subject.").waitFor();
  assert.equal(await page.locator(".transcript").getByText("First subject.").count(), 0);
  await close();
});

test("a server that went away is told in plain words, and the message can be sent again", async () => {
  const short = await startServer();
  const { page, close } = await openPage(browser, short.url);
  await page.locator(".hello").waitFor();
  await short.stop();
  await page.locator("#message").fill("Anybody there?");
  await page.locator("#message").press("Enter");
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.innerText(), /The server does not answer/);
  assert.ok(await alert.getByRole("button", { name: "Try again" }).isVisible());
  assert.match(await page.locator(".transcript").innerText(), /Anybody there/);
  await close();
});

test("with a key the server asks for it, and gives its model to nobody", async () => {
  const locked = await startServer({ flags: ["--api-key", "sesame", "-n", "8"] });
  assert.equal((await fetch(`${locked.url}/models/default.gguf`)).status, 401);
  const { page, close } = await openPage(browser, locked.url);
  await page.getByText("The server asks for an API key.").waitFor();
  await page.getByLabel("Address", { exact: true }).fill(locked.url);
  await page.getByLabel(/API key/).fill("sesame");
  await page.getByRole("button", { name: "Connect" }).click();
  assert.ok(numbers(await say(page, "Hello.")).generated > 0);
  await close();
  await locked.stop();
});

test("under a prefix the page is there too", async () => {
  const prefixed = await startServer({ flags: ["--api-prefix", "/llm", "-n", "8"] });
  const { page, close } = await openPage(browser, `${prefixed.url}/llm`);
  assert.ok(numbers(await say(page, "Hello.")).generated > 0);
  await close();
  await prefixed.stop();
});

test("from a static host of this machine the same client chats and handles slots", async () => {
  const host = await startStatic();
  const { page, close } = await openPage(browser, host.url);
  await page.getByRole("button", { name: "On a server" }).click();
  await page.getByLabel("Address", { exact: true }).fill(server.url);
  await page.getByRole("button", { name: "Connect" }).click();
  assert.ok(numbers(await say(page, "From afar.")).generated > 0);
  await page.getByRole("button", { name: /^Erase slot/, disabled: false }).first().click();
  await page.getByText(/Slot \d is empty\./).first().waitFor();
  await close();
  await host.stop();
});

test("what was chosen while the page still looked around stays chosen", async () => {
  let found;
  const looked = new Promise((resolve) => (found = resolve));
  const busy = { "v1/models": () => {}, props: () => {}, health: (_, response) => looked.then(() => response.writeHead(404).end()) };
  const host = await startStatic(busy);
  const { page, close } = await openPage(browser, host.url);
  await page.getByRole("button", { name: "On a server" }).click();
  await page.getByLabel("Address", { exact: true }).fill(host.url);
  await page.getByRole("button", { name: "Connect" }).click();
  await page.getByText("Connecting to").waitFor();
  const last = page.waitForResponse(/models\/default\.gguf/);
  found();
  await last;
  await page.waitForTimeout(300);
  assert.ok(await page.getByText("Connecting to").isVisible());
  await close();
  await host.stop();
});

test("what a model writes is shown as text and a little Markdown, never as HTML", async () => {
  const { page, close } = await open();
  const content = [
    "# Title",
    "Some **bold**, *slanted* and `code`, 2 * 3 * 4.",
    "<img src=x onerror=\"document.title='bad'\">",
    "",
    "1. one",
    "2. two",
    "",
    "- a",
    "- b",
    "",
    "```js",
    "<b>1 < 2</b>",
    "```",
    "```",
    "open at the end",
  ].join("\n");
  await page.evaluate((text) => {
    const messages = [{ role: "user", content: "<i>hi</i>" }, { role: "assistant", content: text }];
    localStorage.setItem("reprise.chats", JSON.stringify([{ id: "1", changed: 1, messages }]));
  }, content);
  // Leaving the page writes down what it has in memory, so the text must come in through a page that never had another.
  const second = await page.context().newPage();
  await second.goto(server.url);
  const answer = second.locator(".assistant .prose");
  await answer.waitFor();
  assert.equal(await second.locator(".user .text").innerText(), "<i>hi</i>");
  // Items by themselves: how a list's text is put together depends on whether its style has arrived.
  const shape = await answer.evaluate((element) => {
    const text = (part) => (/^[OU]L$/.test(part.tagName) ? [...part.children].map(text).join("\n") : part.innerText.trim());
    return [...element.children].map((part) => [part.tagName, text(part)]);
  });
  assert.deepEqual(shape, [
    ["P", "Title"],
    ["P", "Some bold, slanted and code, 2 * 3 * 4.\n<img src=x onerror=\"document.title='bad'\">"],
    ["OL", "one\ntwo"],
    ["UL", "a\nb"],
    ["PRE", "<b>1 < 2</b>"],
    ["PRE", "open at the end"],
  ]);
  assert.equal(await answer.locator("strong, em, p code").count(), 3);
  assert.equal(await second.title(), "Reprise");
  await close();
});
