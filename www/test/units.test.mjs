// What can be tested without a page: numbers, speeds, slots, conversations, the words for errors.
import assert from "node:assert/strict";
import { test } from "node:test";
import { unit } from "./support/units.mjs";

test("numbers as people read them", async () => {
  const { bytes, count, duration, modelTitle, rate, shortName } = await unit("format");
  assert.deepEqual([0, 999, 1000, 98_362_432, 999_960_000].map(bytes), ["0 B", "999 B", "1.0 KB", "98.4 MB", "1.0 GB"]);
  assert.equal(count(1_234_567), "1\u202f234\u202f567");
  assert.deepEqual([1.26, 210, 1940, 61_000, 3_660_000].map(duration), ["1.3 ms", "210 ms", "1.9 s", "1 min 1 s", "1 h 1 min"]);
  assert.deepEqual([8.06, 1520].map(rate), ["8.1 tokens/s", "1\u202f520 tokens/s"]);
  assert.equal(modelTitle("/models/SmolLM2-135M-Instruct.Q4_1.gguf"), "SmolLM2-135M-Instruct.Q4_1");
  assert.deepEqual(["SmolLM2-135M-Instruct.Q4_1", "gemma-3-270m", "x"].map(shortName), ["SmolLM2", "gemma", "x"]);
});

test("speed and time left come from the last seconds", async () => {
  const { PaceMeter } = await unit("pace");
  const meter = new PaceMeter();
  assert.deepEqual(meter.note(0, 100, 0), { speed: 0, left: undefined });
  assert.deepEqual(meter.note(10, 100, 1000), { speed: 10, left: 9000 });
  for (let second = 2; second <= 10; second += 1) meter.note(10 + (second - 1) * 2, 100, second * 1000);
  const { speed } = meter.note(30, 100, 11_000);
  assert.equal(speed, 2, "the fast beginning is forgotten");
  assert.deepEqual(meter.note(0, 50, 12_000), { speed: 0, left: undefined }, "the next file begins anew");
});

test("the parts of a slot add up to its tokens, whatever a server tells", async () => {
  const { slotView } = await unit("slotview");
  const placement = { slot: 1, reason: "similarity 0.50", cached: 30, processed: 10, generated: 6, prompt_ms: 20, saved_ms: 60, tiers: { slot: 10, ram: 4, disk: 16 } };
  const whole = slotView({ id: 1, n_ctx: 64, is_processing: false, n_prompt_tokens: 45, placement });
  assert.deepEqual([whole.held, whole.cached, whole.processed, whole.generated], [0, 30, 10, 5]);
  assert.deepEqual(whole.tiers, { slot: 10, ram: 4, disk: 16 });
  assert.deepEqual([whole.firstToken, whole.firstTokenUncached], [20, 80]);
  const restored = slotView({ id: 0, n_ctx: 64, is_processing: false, n_prompt_tokens: 40 });
  assert.deepEqual([restored.held, restored.cached, restored.firstToken, restored.tiers], [40, 0, undefined, undefined]);
  const foreign = slotView({
    id: 0,
    n_ctx: 64,
    is_processing: true,
    n_prompt_tokens: 20,
    n_prompt_tokens_cache: 8,
    n_prompt_tokens_processed: 9,
    next_token: [{ n_decoded: 3 }],
  });
  assert.deepEqual([foreign.cached, foreign.processed, foreign.generated, foreign.held], [8, 9, 3, 0]);
  assert.equal(slotView({ id: 0, n_ctx: 64, is_processing: false }).tokens, 0);
});

test("conversations: the empty one is not kept, the others stay in order", async () => {
  const { chatTitle, deleteChat, emptyChat, openChat, startChat } = await unit("chats");
  const said = (content) => ({ ...emptyChat(), messages: [{ role: "user", content }] });
  const [a, b] = [said("a"), said("b\n  c")];
  const started = startChat({ current: a, others: [b] });
  assert.deepEqual([started.current.messages, started.others], [[], [a, b]]);
  assert.equal(startChat(started).current, started.current);
  const opened = openChat(started, b.id);
  assert.deepEqual([opened.current, opened.others], [b, [a]]);
  assert.deepEqual(deleteChat(opened), { current: a, others: [] });
  assert.deepEqual([chatTitle(b), chatTitle(emptyChat()), chatTitle(said("x".repeat(80))).length], ["b c", "New chat", 48]);
});

test("every error of the library has words of its own, and says what to do", async () => {
  Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
  const { explain, RepriseError } = await unit("trouble");
  const types = [
    "model_not_found",
    "model_too_large_error",
    "context_too_large_error",
    "size_mismatch",
    "checksum_mismatch",
    "storage_full",
    "offline",
    "network_error",
    "no_webgpu",
    "not_isolated",
    "not_supported",
    "out_of_memory",
    "worker_error",
    "disposed",
    "broken_stream",
  ];
  const titles = types.map((type) => {
    const { title, advice, detail } = explain(new RepriseError("the detail", { status: 500, type }), "model");
    assert.match(title, /^[A-Z].*\.$/);
    assert.match(advice, /^[A-Z].*\.$/);
    assert.equal(detail, "the detail");
    return title;
  });
  assert.equal(new Set(titles).size, types.length);
  const invalid = (message) => explain(new RepriseError(message, { status: 400, type: "invalid_model" }), "model").title;
  assert.match(invalid("model architecture 'mamba' is not supported; supported are llama, qwen2, qwen3 and gemma3"), /kind of model/);
  assert.match(invalid("tensor 'a' has type IQ2_XS, which is not supported. Use a file quantised as F32"), /quantisation/);
  assert.match(invalid("the file is truncated: tensor 'a' ends at byte 9, the file has 8. Download it again"), /cut off/);
  assert.match(invalid("x.gguf is not a GGUF file: it begins with \"<htm\"."), /not a GGUF/);
  const full = new DOMException("full", "QuotaExceededError");
  assert.match(explain(full, "slot").title, /no room/);
  assert.match(explain(new TypeError("Failed to fetch"), "chat").title, /does not answer/);
});
