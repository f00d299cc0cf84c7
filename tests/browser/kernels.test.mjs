// The op suite of `compute` in Chromium: the GPU's kernels on a software adapter, and the processor's.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch } from "../bridge/browser.mjs";
import { Site } from "../bridge/site.mjs";

let site;
let browser;

before(async () => {
  [site, browser] = await Promise.all([Site.open(), launch()]);
});
after(async () => {
  await browser.close();
  await site.close();
});

// The software adapter takes a minute for a variant's shaders: the GPU's other variants are left to the native run.
for (const [backend, module, entry, variant] of [
  ["gpu", "simd", "gpu_suite", "plain"],
  ["cpu", "simd", "cpu_suite"],
]) {
  test(`every operation of the ${backend} backend, module ${module} ${variant ?? ""}`, async () => {
    const page = await browser.newPage();
    await page.goto(`${site.origin}/page/index.html`);
    const variants = await page.evaluate(async ([module, entry, variant]) => {
      // As the package's worker does before it starts a module.
      (await import("/reprise/gpu.js")).askForSubgroups();
      const suite = await import(`/reprise/wasm/${module}/reprise.js`);
      await suite.default({ module_or_path: `/reprise/wasm/${module}/reprise_bg.wasm` });
      return suite[entry](variant);
    }, [module, entry, variant]);
    for (const { name, passed, failures } of variants) {
      console.log(`op suite Chromium, ${backend} (${name}): ${passed} passed, ${failures.length} failed`);
    }
    assert.equal(variants.length, 1, "the software adapter has it");
    for (const { name, passed, failures } of variants) {
      assert.ok(passed > 0, `${name}: it is empty`);
      assert.deepEqual(failures, [], name);
    }
    await page.close();
  });
}
