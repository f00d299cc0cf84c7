// Both engines in one Chromium, in turn, on the same model file: `node bench.mjs --model FILE [--rounds N] [--threads N] [--llama-bench BINARY]`.
// Prints a table of medians and of the medians of pairwise ratios. Whoever reads it on a busy machine reads the ratios.
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import { brotliCompressSync } from "node:zlib";
import { Browser } from "./browser.mjs";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "1" },
    "llama-bench": { type: "string" },
  },
});
const rounds = Number(flags.rounds);
const threads = Number(flags.threads);
const PREFILL = 256;
const DECODE = 32;

const median = (all) => {
  const sorted = all.filter((value) => Number.isFinite(value)).sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN;
};
const show = (value, digits = 1) => (Number.isFinite(value) ? value.toFixed(digits) : "-");

/** About `tokens` tokens of text that no earlier round has seen. */
function prompt(round, tokens) {
  const words = "the river runs past old stone houses while people walk along its quiet green banks in the evening".split(" ");
  const text = [`Round ${round * 7919}.`];
  while (text.length < tokens) text.push(words[(text.length * 7 + round) % words.length]);
  return text.join(" ");
}

/** One engine's figures in one round, on a fresh page. */
async function measure(browser, kind, round) {
  const page = await browser.page(kind);
  try {
    const options = kind === "reprise" ? { backend: "wasm", threads, persist: { automatic: false } } : { threads };
    await page.load(kind, options);
    await page.complete(prompt(round + 1000, 16), 2); // code is compiled, pages are touched
    const long = await page.complete(prompt(round, PREFILL), DECODE);
    const tokens = long.usage?.prompt_n ?? long.usage?.prompt_tokens ?? PREFILL;
    const system = { role: "system", content: prompt(round + 500, 160) };
    const messages = [system, { role: "user", content: "Name a river." }];
    await page.chat(messages, 8);
    messages.push({ role: "assistant", content: "The Nile." }, { role: "user", content: "And another one?" });
    const second = await page.chat(messages, 2);
    return {
      tokens,
      prefill: (tokens * 1000) / long.first,
      decode: ((long.parts - 1) * 1000) / (long.last - long.first),
      second: second.first,
    };
  } finally {
    await page.close();
  }
}

/** llama.cpp itself, on as many threads: tokens a second. */
async function native() {
  if (!flags["llama-bench"]) return undefined;
  const args = ["-m", flags.model, "-t", String(threads), "-p", String(PREFILL), "-n", String(DECODE), "-r", "1", "-o", "json"];
  const { stdout } = await promisify(execFile)(flags["llama-bench"], args);
  const runs = JSON.parse(stdout);
  const speed = (kind) => runs.find((run) => run[kind] > 0)?.avg_ts;
  return { prefill: speed("n_prompt"), decode: speed("n_gen") };
}

/** A chat of a thousand tokens, a reload, and the next turn: with the slot's image and without. */
async function resume(browser) {
  const page = await browser.page("reprise", { persistent: true });
  const options = { backend: "wasm", threads };
  const messages = [{ role: "system", content: prompt(42, 950) }, { role: "user", content: "Name a river." }];
  await page.load("reprise", options);
  const cold = await page.chat(messages, 8);
  await page.persisted();
  await page.reload();
  await page.load("reprise", options);
  const restored = (await page.events()).find((event) => event.type === "restored")?.slots?.[0];
  messages.push({ role: "assistant", content: "The Nile." }, { role: "user", content: "And another one?" });
  const warm = await page.chat(messages, 2);
  await page.close();
  return { cold, warm, restored };
}

/** What a token costs the GPU: counts, since a software adapter's seconds say nothing. */
async function webgpu(browser) {
  const page = await browser.page("reprise");
  try {
    await page.load("reprise", { backend: "webgpu", persist: { automatic: false } });
    // Ending where the text ends: without, every row of logits is read back, since a bias goes over it.
    const text = "One, two, three, four, five,";
    await page.complete(text, 2, false);
    const before = (await page.info()).counters;
    const { parts } = await page.complete(text, 9, false);
    const after = (await page.info()).counters;
    return Object.fromEntries(Object.keys(after).map((key) => [key, (after[key] - before[key]) / parts]));
  } finally {
    await page.close();
  }
}

/** What a visitor downloads, compressed. */
async function sizes(folder) {
  const kb = async (file) => brotliCompressSync(await readFile(file)).length / 1000;
  const scripts = (await readdir(folder)).filter((name) => name.endsWith(".js") && name !== "node.js");
  let js = 0;
  for (const name of scripts) js += await kb(path.join(folder, name));
  const modules = {};
  for (const name of ["simd", "threads"]) {
    const module = path.join(folder, "wasm", name);
    modules[name] = (await kb(path.join(module, "reprise_bg.wasm"))) + (await kb(path.join(module, "reprise.js"))) + js;
  }
  return modules;
}

const browser = await Browser.start(flags.model);
try {
  const all = { reprise: [], wllama: [], native: [] };
  for (let round = 0; round < rounds; round++) {
    for (const kind of ["reprise", "wllama"]) all[kind].push(await measure(browser, kind, round));
    const peer = await native();
    if (peer) all.native.push(peer);
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
  const ratio = (key, peer) => median(all.reprise.map((ours, i) => ours[key] / all[peer][i]?.[key]));
  console.log(`\nwasm, ${threads} thread${threads > 1 ? "s" : ""}, ${rounds} rounds in turn, ${path.basename(flags.model)}\n`);
  console.log("| figure | unit | reprise | wllama 3.8.1 | ratio | native llama.cpp | ratio |");
  console.log("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
  for (const [name, key, unit] of [[`prefill, ${PREFILL}-word prompt`, "prefill", "tokens/s"], ["decode", "decode", "tokens/s"]]) {
    const [ours, theirs, cpp] = ["reprise", "wllama", "native"].map((kind) => median(all[kind].map((run) => run[key])));
    console.log(`| ${name} | ${unit} | ${show(ours)} | ${show(theirs)} | ${show(ratio(key, "wllama"), 2)} | ${show(cpp)} | ${show(ratio(key, "native"), 2)} |`);
  }
  const [ours, theirs] = ["reprise", "wllama"].map((kind) => median(all[kind].map((run) => run.second)));
  const faster = median(all.reprise.map((run, i) => all.wllama[i].second / run.second));
  console.log(`| second turn of a chat, TTFT | ms | ${show(ours)} | ${show(theirs)} | ${show(faster, 2)} | - | - |`);

  const { cold, warm, restored } = await resume(browser);
  console.log("\n| resume after a reload, 1k-token chat | value |\n| --- | ---: |");
  console.log(`| TTFT, processed anew | ${show(cold.first)} ms (${cold.usage?.prompt_n} tokens) |`);
  console.log(`| TTFT of the next turn after the reload | ${show(warm.first)} ms (${warm.usage?.cache_n} cached, ${warm.usage?.prompt_n} new) |`);
  console.log(`| ratio | ${show(cold.first / warm.first, 1)} |`);
  if (restored) console.log(`| restore at load | ${show(restored.bytes / 1000 / restored.ms)} MB/s (${show(restored.bytes / 1e6)} MB in ${show(restored.ms)} ms) |`);

  const counts = await webgpu(browser);
  console.log("\n| WebGPU (software adapter), per decoded token | count |\n| --- | ---: |");
  for (const [name, count] of Object.entries(counts)) console.log(`| ${name} | ${show(count, 2)} |`);

  console.log("\n| download, brotli | KB |\n| --- | ---: |");
  for (const [name, kb] of Object.entries(await sizes(browser.package))) console.log(`| wasm + JS, module ${name} | ${show(kb, 0)} |`);
} finally {
  await browser.stop();
}
