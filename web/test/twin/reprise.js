// A scripted stand-in for the wasm module: the same exports, answers that are known beforehand. It lets the library be tested
// without a model, and makes everything happen that a real engine does rarely (traps, lost devices, endless answers).

/** Options under `defaults.twin` script a load: {trap: true}, {fail: {code, type, message}}, {reads: [[offset, length]]}. */
export class Engine {
  #options;
  #host;
  #aborts = 0;
  #pulled = 0;
  #persisted = 0;
  #images = new Map();

  constructor(options, host) {
    this.#options = options;
    this.#host = host;
  }

  static async load(options, host) {
    const script = options.defaults?.twin ?? {};
    if (script.trap) throw new WebAssembly.RuntimeError("unreachable");
    if (script.fail) throw Object.assign(new Error(script.fail.message), { name: "RepriseError", ...script.fail });
    host.event({ type: "backend", backend: "wasm", name: "twin", reason: "there is no other" });
    for (let done = 0; done < host.source.size; done += 65536) {
      await host.source.read(done, Math.min(65536, host.source.size - done));
      host.progress(Math.min(done + 65536, host.source.size), host.source.size);
    }
    host.event({ type: "restored", slots: [{ slot: 0, tokens: 3, bytes: 12, ms: 1 }] });
    if (host.spawn && script.spawn) host.spawn(script.spawn);
    return new Engine(options, host);
  }

  info() {
    const { threads, modelName } = this.#options;
    return {
      backend: "wasm",
      backendReason: "twin",
      model: { name: modelName },
      slots: 2,
      context: 64,
      vocab: 256,
      threads,
      persisted: this.#persisted,
    };
  }

  async persist() {
    this.#persisted += 1;
    this.#host.event({ type: "saved", slots: [{ slot: 0, tokens: 3, bytes: 12, ms: 1 }] });
  }

  async images() {
    return [...this.#images.keys()].map((name) => ({ name, bytes: 4, tokens: 1, automatic: false, created: 0 }));
  }

  lose_device() {
    this.#host.event({ type: "device-lost", message: "asked for" });
    this.#host.event({ type: "device-restored", slots: [] });
  }

  async dispose() {}

  async fetch({ method, url, headers, body, signal }) {
    const text = () => (body ? new TextDecoder().decode(body) : "");
    const { pathname, searchParams } = new URL(url, "http://twin");
    const number = (name) => Number(searchParams.get(name));
    switch (pathname) {
      case "/echo":
        return Response.json({ method, url, headers, body: text() }, { headers: { "x-twin": "yes" } });
      case "/nothing":
        return new Response(null, { status: 204 });
      case "/hang":
        return new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            this.#aborts += 1;
            reject(signal.reason);
          });
        });
      case "/counts":
        return Response.json({ aborts: this.#aborts, pulled: this.#pulled });
      case "/crash":
        setTimeout(() => {
          throw new Error("crashed on request");
        });
        return new Promise(() => undefined);
      case "/stream":
        return new Response(this.#stream(number("chunks"), number("bytes"), signal));
      case "/breaks":
        return new Response(
          new ReadableStream({
            pull(controller) {
              controller.error(
                Object.assign(new Error("the device was lost"), { code: 503, type: "unavailable_error" }),
              );
            },
          }),
        );
      case "/v1/chat/completions":
        return this.#chat(JSON.parse(text()), signal);
      case "/completion":
        return events(
          [
            { content: "one", stop: false },
            { content: " two", stop: true, stop_type: "eos", timings: { predicted_n: 2 } },
          ],
          false,
        );
      case "/tokenize":
        return Response.json({ tokens: [...body] });
      case "/slots":
        return Response.json([{ id: 0, n_ctx: 64, is_processing: false }]);
      case "/slots/0":
        return this.#slot(searchParams.get("action"), JSON.parse(text() || "{}"));
      case "/slots/0/state":
        if (method === "PUT")
          return Response.json({
            id_slot: 0,
            n_restored: body.length,
            n_read: body.length,
            timings: { restore_ms: 1 },
          });
        return new Response(new Uint8Array([1, 2, 3, 4]), { headers: { "content-type": "application/octet-stream" } });
      default:
        return refuse(404, "not_found_error", "File Not Found");
    }
  }

  #stream(chunks, bytes, signal) {
    let sent = 0;
    signal.addEventListener("abort", () => (this.#aborts += 1));
    return new ReadableStream(
      {
        pull: (controller) => {
          this.#pulled += 1;
          controller.enqueue(new Uint8Array(bytes).fill(sent));
          sent += 1;
          if (sent === chunks) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
  }

  #chat({ messages, stream, max_tokens, model = "twin" }, signal) {
    const last = messages.at(-1).content;
    if (last === "fail") return refuse(400, "exceed_context_size_error", "the request exceeds the context");
    const words = last.split(" ").slice(0, max_tokens ?? 100);
    const choice = (delta, finish_reason = null) => ({
      id: "chatcmpl-1",
      object: "chat.completion.chunk",
      created: 1,
      model,
      choices: [{ index: 0, delta, finish_reason }],
    });
    const usage = { prompt_tokens: 5, completion_tokens: words.length, total_tokens: 5 + words.length };
    if (!stream) {
      const message = { role: "assistant", content: words.join(" ") };
      return Response.json({
        id: "chatcmpl-1",
        object: "chat.completion",
        created: 1,
        model,
        choices: [{ index: 0, message, finish_reason: "stop" }],
        usage,
      });
    }
    signal?.addEventListener("abort", () => (this.#aborts += 1));
    const parts = words.map((word, index) => choice({ content: index === 0 ? word : ` ${word}` }));
    const broken = last.startsWith("break");
    const end = broken
      ? [{ error: { code: 503, type: "unavailable_error", message: "the GPU device was lost" } }]
      : [choice({}, "stop"), { ...choice({}), choices: [], usage, timings: { cache_n: 3, prompt_n: 2 } }];
    return events([choice({ role: "assistant", content: null }), ...parts, ...end], !broken);
  }

  async #slot(action, { filename }) {
    const store = this.#host.store ?? memory(this.#images);
    if (action === "save") {
      const n_written = await store.put(filename, [new Uint8Array([1, 2]), new Uint8Array([3, 4])]);
      return Response.json({ id_slot: 0, filename, n_saved: 1, n_written, timings: { save_ms: 1 } });
    }
    if (action === "erase") return Response.json({ id_slot: 0, n_erased: 3 });
    const image = await store.get(filename);
    if (!image) return refuse(400, "invalid_request_error", "Unable to restore slot: the file does not exist");
    return Response.json({ id_slot: 0, filename, n_restored: 1, n_read: image.length, timings: { restore_ms: 1 } });
  }
}

const memory = (images) => ({
  put: async (name, parts) => (images.set(name, parts), parts.reduce((sum, part) => sum + part.length, 0)),
  get: async (name) => (images.has(name) ? new Uint8Array(4) : undefined),
});

const refuse = (status, type, message) => Response.json({ error: { code: status, type, message } }, { status });

/** One chunk for each event, each cut in the middle. */
function events(list, done) {
  const encoder = new TextEncoder();
  const bytes = list.map((event) => encoder.encode(`data: ${JSON.stringify(event)}\n\n`));
  if (done) bytes.push(encoder.encode("data: [DONE]\n\n"));
  const pieces = bytes.flatMap((event) => [event.slice(0, 9), event.slice(9)]);
  const body = new ReadableStream({
    pull(controller) {
      const next = pieces.shift();
      if (next) controller.enqueue(next);
      else controller.close();
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

export function set_log(log) {
  log("info", "the twin speaks");
}

let shared;

/** Whether it stands in for the build with threads; `writeTwin` says so. */
const SHARED = true;

export default async function start({ memory }) {
  shared = memory ?? new WebAssembly.Memory({ initial: 1, maximum: 1, shared: SHARED });
  return { memory: shared };
}

/** Counts its calls in the shared memory. */
export function run_helper(pointer) {
  const cells = new Int32Array(shared.buffer);
  Atomics.add(cells, pointer, 1);
  Atomics.notify(cells, pointer);
}

/** SHA-256, plainly. */
export class Sha256 {
  #bytes = [];

  update(bytes) {
    for (const byte of bytes) this.#bytes.push(byte);
  }

  finish() {
    const primes = [];
    for (let n = 2; primes.length < 64; n += 1) if (primes.every((prime) => n % prime)) primes.push(n);
    const fraction = (root) => Math.floor((root - Math.floor(root)) * 2 ** 32);
    const k = primes.map((prime) => fraction(Math.cbrt(prime)));
    const state = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
    const length = this.#bytes.length;
    const message = [...this.#bytes, 128];
    while (message.length % 64 !== 56) message.push(0);
    const view = new DataView(new ArrayBuffer(message.length + 8));
    message.forEach((byte, index) => view.setUint8(index, byte));
    view.setBigUint64(message.length, BigInt(length) * 8n);
    const turn = (word, by) => (word >>> by) | (word << (32 - by));
    for (let block = 0; block < view.byteLength; block += 64) {
      const w = Array.from({ length: 16 }, (_, index) => view.getUint32(block + 4 * index));
      for (let i = 16; i < 64; i += 1) {
        const [a, b] = [w[i - 15], w[i - 2]];
        const s0 = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3);
        const s1 = turn(b, 17) ^ turn(b, 19) ^ (b >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i += 1) {
        const t1 = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
        const t2 = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index] = (state[index] + word) | 0));
    }
    return state.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}
