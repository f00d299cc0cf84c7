// The page for everybody: keys alone, names of controls, contrast in both themes, a narrow screen.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, openPage, say } from "./support/browser.mjs";
import { startServer } from "./support/server.mjs";

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
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());

test("the keyboard alone reaches everything, in the order of the page", async () => {
  const { page, close } = await open();
  await page.locator(".hello").waitFor();
  const order = [];
  for (let step = 0; step < 60; step += 1) {
    await page.keyboard.press("Tab");
    const at = await focused(page);
    if (at === "" || order.includes(at)) break;
    order.push(at);
    const ring = await page.evaluate(() => {
      const seen = document.activeElement.closest(".box") ?? document.activeElement;
      return getComputedStyle(seen).outlineStyle !== "none" || getComputedStyle(document.activeElement).outlineStyle !== "none";
    });
    assert.ok(ring, `${at} shows that it has the focus`);
  }
  assert.equal(order[0], "Skip to the message box");
  const places = ["In this browser", "On this server", "Chats", "New chat", "Hide slots", "message", "slot", "Send"].map((name) =>
    order.findIndex((at) => at.startsWith(name)),
  );
  assert.ok(!places.includes(-1), `all are reached: ${order.join(" | ")}`);
  assert.deepEqual(places, places.toSorted((a, b) => a - b));
  await close();
});

test("a chat by keys only: skip link, write, send, stop, new chat, panel, help", async () => {
  const { page, close } = await open();
  const keys = page.keyboard;
  await page.locator(".hello").waitFor();
  await keys.press("Tab");
  await keys.press("Enter");
  await keys.type("Hello");
  assert.equal(await focused(page), "message");
  await keys.press("Shift+Enter");
  await keys.type("there");
  await keys.press("Enter");
  await page.locator(".receipt").waitFor();
  assert.equal(await page.locator(".user .text").innerText(), "Hello\nthere");

  await keys.press("Alt+n");
  await page.locator(".hello").waitFor();
  assert.equal(await focused(page), "message");
  await keys.press("Alt+s");
  await page.locator("#panel").waitFor({ state: "hidden" });
  await keys.press("Alt+s");
  await page.locator("#panel").waitFor();
  assert.match(await focused(page), /Restore|Save/);
  await keys.press("Alt+h");
  await page.getByRole("dialog").waitFor();
  await keys.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await keys.press("Alt+m");
  assert.equal(await focused(page), "message");
  await page.locator(".menu summary").focus();
  await keys.press("Enter");
  await page.locator(".sheet").waitFor();
  await keys.press("Escape");
  await page.locator(".sheet").waitFor({ state: "hidden" });
  await close();
});

test("answers are announced when they are whole, and states while they change", async () => {
  const { page, close } = await open();
  await say(page, "Say it aloud.");
  const live = page.locator("#say");
  assert.equal(await live.getAttribute("aria-live"), "polite");
  await page.waitForFunction(() => document.querySelector("#say").textContent.startsWith("Answer: "));
  assert.equal(await page.locator(".transcript [aria-live]").count(), 0);
  await close();
});

test("every control has a name, every field a label, and ids and headings are in order", async () => {
  const { page, close } = await open();
  await say(page, "Fill the page.");
  await page.locator(".facts").first().waitFor();
  const faults = await page.evaluate(() => {
    const found = [];
    const named = (element) =>
      element.getAttribute("aria-label") ||
      (element.getAttribute("aria-labelledby") && document.getElementById(element.getAttribute("aria-labelledby"))?.textContent) ||
      [...(element.labels ?? [])].map((label) => label.textContent.trim()).join("") ||
      element.textContent.trim();
    for (const element of document.querySelectorAll("button, a, input:not([aria-hidden]), textarea, select, summary, [role=img], [role=group], meter, progress")) {
      const name = named(element);
      if (!name) found.push(`no name: ${element.outerHTML.slice(0, 80)}`);
    }
    for (const element of document.querySelectorAll("textarea, select, input:not([aria-hidden])")) {
      if (!element.labels?.length && !element.getAttribute("aria-label")) found.push(`no label: ${element.id}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
    found.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: #${id}`));
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3")) {
      const next = Number(heading.tagName[1]);
      if (next > level + 1) found.push(`heading jumps: ${heading.textContent}`);
      level = next;
    }
    for (const element of document.querySelectorAll("[aria-controls], [aria-describedby], [aria-labelledby]")) {
      for (const attribute of ["aria-controls", "aria-describedby", "aria-labelledby"]) {
        const id = element.getAttribute(attribute);
        if (id && !document.getElementById(id) && id !== "dialog-title") found.push(`${attribute} of nothing: ${id}`);
      }
    }
    if (document.querySelectorAll("main").length !== 1) found.push("not one main");
    if (!document.documentElement.lang) found.push("no language");
    return found;
  });
  assert.deepEqual(faults, []);
  await close();
});

/** In the page: texts whose contrast to what is really behind them is below what their size asks for. */
function poorContrast() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((value, at) => value * top[3] + under[at] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "");
    if (!own || !element.checkVisibility() || element.closest(".unseen, .skip, :disabled, script, svg")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const value = ratio(over(rgba(style.color), ground), ground);
    const large = parseFloat(style.fontSize) >= 24;
    if (value < (large ? 3 : 4.5)) poor.push(`${value.toFixed(2)} ${element.tagName} ${element.textContent.trim().slice(0, 40)}`);
  }
  for (const kind of ["cached", "processed", "generated"]) {
    const swatch = document.querySelector(`.legend .${kind}`);
    const value = ratio(rgba(getComputedStyle(swatch).backgroundColor), behind(swatch.parentElement));
    if (value < 3) poor.push(`${value.toFixed(2)} colour of ${kind}`);
  }
  for (const edge of document.querySelectorAll("input:not([type=file]), select, .box")) {
    if (!edge.checkVisibility()) continue;
    const value = ratio(rgba(getComputedStyle(edge).borderTopColor), behind(edge.parentElement));
    if (value < 3) poor.push(`${value.toFixed(2)} edge of ${edge.id || edge.className}`);
  }
  return poor;
}

for (const colorScheme of ["light", "dark"]) {
  test(`texts, colours and edges can be told from their ground in the ${colorScheme} theme`, async () => {
    const { page, close } = await open({ colorScheme });
    await page.locator(".hello").waitFor();
    assert.deepEqual(await page.evaluate(poorContrast), []);
    await say(page, "Show colours.");
    await page.locator(".facts").first().waitFor();
    assert.deepEqual(await page.evaluate(poorContrast), []);
    await page.getByRole("button", { name: "In this browser" }).click();
    await page.locator("#model-url").fill(`${server.url}/none.gguf`);
    await page.getByRole("button", { name: "Download", exact: true }).click();
    await page.getByRole("alert").waitFor();
    assert.deepEqual(await page.evaluate(poorContrast), []);
    await close();
  });
}

for (const width of [360, 768, 1280]) {
  test(`nothing sticks out at ${width} px`, async () => {
    const { page, close } = await open({ width, height: 740 });
    const sideways = () =>
      page.evaluate(() =>
        [document.documentElement, ...document.querySelectorAll("body, header, main, #stage, #panel, #composer")]
          .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth + 1)
          .map((element) => `${element.tagName}#${element.id}: ${element.scrollWidth} in ${element.clientWidth}`),
      );
    await page.locator(".hello").waitFor();
    assert.deepEqual(await sideways(), []);
    await say(page, `A word that does not end: ${"abc".repeat(60)}`);
    assert.deepEqual(await sideways(), []);
    const toggle = page.locator(".panel-toggle");
    if ((await toggle.getAttribute("aria-expanded")) === "false") await toggle.click();
    await page.locator("#slots .facts").first().waitFor();
    assert.deepEqual(await sideways(), []);
    await page.locator(".switch button").first().click();
    if (width < 960) await toggle.click();
    await page.locator(".chooser").waitFor();
    assert.deepEqual(await sideways(), []);
    await close();
  });
}
