// The real browser, and the page in it.
import { chromium } from "playwright-core";
import { chromiumPath } from "./env.mjs";

/** WebGPU without a GPU, and nothing that asks the network by itself. */
const ARGUMENTS = [
  "--headless=new",
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-webgpu-adapter=swiftshader",
  "--use-vulkan=swiftshader",
  "--no-first-run",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const launch = () => chromium.launch({ executablePath: chromiumPath, args: ARGUMENTS });

/** A fresh profile with the page open. Errors that the page did not catch fail the test at `close`. */
export async function openPage(browser, url, { width = 1280, height = 800, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error));
  await page.goto(url);
  return {
    page,
    async close() {
      await context.close();
      if (uncaught.length > 0) throw uncaught[0];
    },
  };
}

/** Says something and waits for the end of the answer; its receipt as text. */
export async function say(page, text, timeout = 60_000) {
  const answers = await write(page, text);
  await page.waitForFunction((count) => document.querySelectorAll(".receipt").length > count, answers, { timeout });
  return page.locator(".receipt p").last().innerText();
}

/** Writes a message and sends it, once there is somebody to send it to; the number of answers before it. */
async function write(page, text) {
  await page.waitForFunction(() => document.querySelector(".send")?.disabled === false);
  const answers = await page.locator(".receipt").count();
  await page.locator("#message").fill(text);
  await page.locator("#message").press("Enter");
  return answers;
}

/** The same for an engine without a limit: stops it when some text is there. */
export async function sayBriefly(page, text) {
  const answers = await write(page, text);
  await page.waitForFunction(
    (count) =>
      document.querySelectorAll(".receipt").length > count || (document.querySelector(".writing .text")?.textContent.length ?? 0) > 20,
    answers,
  );
  await page.keyboard.press("Escape");
  await page.waitForFunction((count) => document.querySelectorAll(".receipt").length > count, answers);
  return page.locator(".receipt p").last().innerText();
}

/** The numbers of a receipt. */
export function numbers(receipt) {
  const count = (word) => Number(new RegExp(`([\\d\u202f]+) ${word}`).exec(receipt)?.[1]?.replaceAll("\u202f", ""));
  return { cached: count("cached"), processed: count("processed"), generated: count("generated") };
}
