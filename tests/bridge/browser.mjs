// Chromium as the tests run it: a real browser with WebGPU on a software adapter, that reaches nothing but this machine.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const ALWAYS = [
  "--headless=new",
  "--no-sandbox", // containers run as root, where the sandbox does not start
  "--no-first-run",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-crash-reporter", // a page that a test kills leaves no dump
  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
];

const WEBGPU = [
  "--enable-unsafe-webgpu",
  "--enable-features=Vulkan",
  "--use-webgpu-adapter=swiftshader",
  "--use-vulkan=swiftshader",
];

/**
 * Starts Chromium. With `webgpu: false` it has no adapter, as on a machine without a usable GPU.
 *
 * @param {{ webgpu?: boolean }} options
 * @returns {Promise<import("playwright-core").Browser>}
 */
export function launch({ webgpu = true } = {}) {
  return chromium.launch({
    executablePath: executable(),
    // The driver's own choices, which would turn the GPU process off.
    ignoreDefaultArgs: ["--headless", "--disable-gpu"],
    args: [...ALWAYS, ...(webgpu ? WEBGPU : ["--disable-features=WebGPUService,Vulkan", "--disable-gpu"])],
  });
}

/** The browser that `CHROMIUM` names, or the first `chromium` or `chromium-browser` on the PATH. */
export function executable() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? "").split(delimiter);
  const candidates = ["chromium", "chromium-browser"].flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error("no chromium on the PATH: install it, or let CHROMIUM name the binary");
  return found;
}
