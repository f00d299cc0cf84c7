// What is measured, in the page: both engines behind one small interface, timed where a user would wait.
/** Streams a completion; when its parts came, in milliseconds. */
async function timed(start) {
  const begin = performance.now();
  const at = [];
  let usage;
  for await (const part of await start()) {
    if (part.text) at.push(performance.now() - begin);
    usage = part.usage ?? usage;
  }
  return { first: at[0], parts: at.length, last: at.at(-1), usage };
}

/** The reprise package. */
class Reprise {
  static async load(model, options) {
    const { createEngine } = await import("/web/index.js");
    const events = [];
    const engine = await createEngine({ model, slots: 1, context: 2048, ...options });
    engine.subscribe?.((event) => events.push(event));
    return Object.assign(new Reprise(), { engine, events });
  }

  complete(prompt, tokens, ignoreEnd = true) {
    const body = { prompt, n_predict: tokens, temperature: 0, stream: true, ignore_eos: ignoreEnd };
    return timed(() => this.#stream("/completion", body, (json) => ({ text: json.content, usage: json.timings })));
  }

  chat(messages, tokens) {
    const body = { messages, max_tokens: tokens, temperature: 0, stream: true, ignore_eos: true };
    const part = (json) => ({ text: json.choices?.[0]?.delta?.content, usage: json.timings });
    return timed(() => this.#stream("/v1/chat/completions", body, part));
  }

  async #stream(path, body, part) {
    const response = await this.engine.fetch(path, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await response.text());
    return lines(response.body, part);
  }

  async dispose() {
    await this.engine.dispose();
  }
}

async function* lines(body, part) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const all = (rest + text).split("\n");
    rest = all.pop();
    for (const line of all) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield part(JSON.parse(line.slice(6)));
    }
  }
}

/** llama.cpp as wllama's npm package has it, on the CPU. */
class Wllama {
  static async load(model, { threads }) {
    const { Wllama: Engine, LoggerWithoutDebug } = await import("/wllama/index.js");
    const engine = new Engine({ default: "/wllama/wasm/wllama.wasm" }, { logger: LoggerWithoutDebug, suppressNativeLog: true });
    const file = await (await fetch(model)).blob();
    await engine.loadModel([file], { n_threads: threads, n_gpu_layers: 0, n_ctx: 2048 });
    return Object.assign(new Wllama(), { engine });
  }

  complete(prompt, tokens) {
    const options = { prompt, max_tokens: tokens, temperature: 0, stream: true, ignore_eos: true };
    return timed(async () => parts(await this.engine.createCompletion(options), (chunk) => chunk.choices?.[0]?.text));
  }

  chat(messages, tokens) {
    const options = { messages, max_tokens: tokens, temperature: 0, stream: true, ignore_eos: true };
    return timed(async () => parts(await this.engine.createChatCompletion(options), (chunk) => chunk.choices?.[0]?.delta?.content));
  }

  async dispose() {
    await this.engine.exit();
  }
}

async function* parts(chunks, text) {
  for await (const chunk of chunks) yield { text: text(chunk), usage: chunk.timings ?? chunk.usage };
}

const engines = { reprise: Reprise, wllama: Wllama };
let loaded;

globalThis.bench = {
  async load(kind, model, options) {
    const begin = performance.now();
    loaded = await engines[kind].load(model, options);
    return { ms: performance.now() - begin, info: await loaded.engine.info?.() };
  },
  complete: (prompt, tokens, ignoreEnd) => loaded.complete(prompt, tokens, ignoreEnd),
  chat: (messages, tokens) => loaded.chat(messages, tokens),
  info: () => loaded.engine.info?.(),
  events: () => loaded.events,
  dispose: () => loaded.dispose(),
};
globalThis.ready = true;
