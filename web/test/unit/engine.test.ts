// The engine in Node's own worker thread, with the scripted module: start, events, requests, failures and the end.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";
import { promisify } from "node:util";

import {
  createEngine,
  deleteModel,
  listModels,
  RepriseError,
  type Engine,
  type EngineEvent,
  type EngineOptions,
  type Progress,
} from "reprise";

import { FileServer } from "../support/file-server.js";
import { lookalike, withFolder, writeTwin } from "../support/twin.js";

const MODEL = lookalike(200_000);

/** Runs `body` with the options of an engine over the twin. */
function withTwin(body: (options: EngineOptions & { folder: string }) => Promise<void>): () => Promise<void> {
  return () =>
    withFolder(async (folder) => {
      await writeTwin(folder);
      await body({ model: MODEL, assets: folder, folder });
    });
}

const rejects = (promise: Promise<unknown>, type: string, message: RegExp): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof RepriseError, String(error));
    assert.deepEqual([error.type, error.name], [type, "RepriseError"]);
    assert.match(error.message, message);
    return true;
  });

test(
  "an engine starts, reports, answers and ends",
  withTwin(async (options) => {
    const [progress, heard]: [Progress[], EngineEvent[]] = [[], []];
    const engine = await createEngine({
      ...options,
      slots: 2,
      modelName: undefined,
      onProgress: (report) => progress.push(report),
      onEvent: (event) => heard.push(event),
    });
    assert.deepEqual(progress.at(-1), { phase: "load", loaded: 200_000, total: 200_000, file: "model.gguf" });
    assert.deepEqual(
      heard.map(({ type }) => type),
      ["log", "backend", "restored"],
    );
    const info = await engine.info();
    assert.deepEqual(
      [info.backend, (info as { threads?: number }).threads, info.model],
      ["wasm", 1, { name: "model.gguf" }],
    );

    const late: EngineEvent[] = [];
    const subscription = engine.subscribe((event) => late.push(event));
    assert.deepEqual(
      late.map(({ type }) => type),
      ["backend", "restored"],
    );
    await engine.loseDevice();
    await engine.persist();
    assert.deepEqual(
      late.map(({ type }) => type),
      ["backend", "restored", "device-lost", "device-restored", "saved"],
    );
    subscription.unsubscribe();
    await engine.persist();
    assert.equal(late.length, 5);

    const { fetch } = engine;
    assert.equal(((await (await fetch("/echo")).json()) as { url: string }).url, "/echo");
    assert.deepEqual(await engine.chat({ messages: [{ role: "user", content: "a b c" }], maxTokens: 2 }).result(), {
      text: "a b",
      finishReason: "stop",
      usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 },
      timings: { cache_n: 3, prompt_n: 2 },
    });
    const refused = engine.chat({ messages: [{ role: "user", content: "fail" }] }).result();
    await rejects(refused, "exceed_context_size_error", /exceeds the context/);
    await rejects(
      engine.chat({ messages: [{ role: "user", content: "break" }] }).result(),
      "unavailable_error",
      /device was lost/,
    );

    const hanging = engine.fetch("/hang");
    await Promise.all([rejects(hanging, "disposed", /createEngine/), engine.dispose(), engine.dispose()]);
    await rejects(engine.fetch("/echo"), "disposed", /was disposed/);
    await rejects(engine.info(), "disposed", /was disposed/);
    assert.ok(
      heard.every(({ type }) => type !== "failed"),
      "the end was told as a failure",
    );
  }),
);

test(
  "slots are saved into files, listed by name, exported and imported",
  withTwin(async (options) => {
    const engine = await createEngine({ ...options, persist: { namespace: "n" } });
    assert.equal((await engine.slots.save(0, "notes")).n_written, 4);
    assert.equal((await stat(join(options.folder, "slots-n", "notes"))).size, 4);
    assert.equal((await engine.slots.restore(0, "notes")).n_read, 4);
    await rejects(engine.slots.restore(0, "other"), "invalid_request_error", /does not exist/);
    await rejects(engine.slots.save(0, "../up"), "internal_error", /no name of a slot file/);
    assert.deepEqual(await engine.slots.erase(0), { id_slot: 0, n_erased: 3 });
    const file = await engine.slots.export(0);
    assert.deepEqual([...new Uint8Array(await file.arrayBuffer())], [1, 2, 3, 4]);
    assert.equal((await engine.slots.import(0, file)).n_restored, 4);
    assert.equal((await engine.slots.import(0, new Uint8Array(3))).n_restored, 3);
    assert.equal((await engine.slots.list())[0]?.n_ctx, 64);
    await engine.dispose();
  }),
);

test(
  "models come from paths, file URLs, blobs and servers",
  withTwin(async (options) => {
    const path = join(options.folder, "on disk.gguf");
    await writeFile(path, MODEL);
    const names: string[] = [];
    const server = await FileServer.start(MODEL, { etag: '"1"' });
    const remote = { url: server.url, size: MODEL.length };
    for (const model of [path, pathToFileURL(path), new Blob([MODEL]), MODEL.buffer, remote, server.url]) {
      const engine = await createEngine({ ...options, model });
      names.push((await engine.info()).model.name);
      await engine.dispose();
    }
    assert.deepEqual(names, [
      "on disk.gguf",
      "on disk.gguf",
      "model.gguf",
      "model.gguf",
      "tiny model.gguf",
      "tiny model.gguf",
    ]);
    assert.equal(server.seen.length, 1);
    await server.stop();
    const [kept, ...others] = await listModels({ folder: options.folder });
    assert.deepEqual([kept?.name, kept?.complete, others], ["tiny model.gguf", true, []]);
    assert.equal(await deleteModel(kept!.url, { folder: options.folder }), true);
    assert.deepEqual(await listModels({ folder: options.folder }), []);
  }),
);

test(
  "a start that cannot succeed says why",
  withTwin(async (options) => {
    const start = (more: Partial<EngineOptions>): Promise<Engine> => createEngine({ ...options, ...more });
    await rejects(
      start({ model: new TextEncoder().encode("<html></html>") }),
      "invalid_model_error",
      /not a GGUF file: it begins with "<html>/,
    );
    await rejects(start({ model: MODEL.slice(0, 20) }), "invalid_model_error", /cut short: it has 20 bytes/);
    await rejects(start({ model: new Uint8Array() }), "invalid_model_error", /cut short: it has 0 bytes/);
    await rejects(
      start({ model: "/no/such/model.gguf" }),
      "model_not_found",
      /\/no\/such\/model.gguf cannot be opened/,
    );
    await rejects(start({ backend: "webgpu" }), "no_webgpu", /no WebGPU in Node/);
    await rejects(
      start({ assets: join(options.folder, "elsewhere") }),
      "worker_error",
      /own file .*reprise.* cannot be loaded/,
    );
    await rejects(start({ defaults: { twin: { trap: true } } }), "out_of_memory", /memory is short/);
    const fail = { code: 400, type: "invalid_request_error", message: "unsupported architecture 'x'" };
    await rejects(start({ defaults: { twin: { fail } } }), "invalid_request_error", /unsupported architecture/);
    await assert.rejects(start({ model: { url: "x", sha256: "12" } }), TypeError);
    await assert.rejects(start({ model: 5 as unknown as string }), TypeError);
  }),
);

test(
  "a downloaded file that the engine cannot read is not kept, one that only has no room is",
  withTwin(async (options) => {
    const server = await FileServer.start(MODEL, { etag: '"1"' });
    const start = (type: string): Promise<Engine> =>
      createEngine({
        ...options,
        model: server.url,
        defaults: { twin: { fail: { code: 422, type, message: "bad" } } },
      });
    await rejects(start("model_too_large_error"), "model_too_large_error", /bad/);
    assert.equal((await listModels({ folder: options.folder })).length, 1);
    await rejects(start("invalid_model_error"), "invalid_model_error", /bad/);
    assert.deepEqual(await listModels({ folder: options.folder }), []);
    await server.stop();
  }),
);

test(
  "a start can be cancelled",
  withTwin(async (options) => {
    const server = await FileServer.start(MODEL, { cuts: [1000, 1000, 1000, 1000, 1000, 1000] });
    const abort = new AbortController();
    const starting = createEngine({
      ...options,
      model: server.url,
      signal: abort.signal,
      onProgress: () => abort.abort(new Error("changed my mind")),
    });
    await assert.rejects(starting, /changed my mind/);
    await server.stop();
    await assert.rejects(createEngine({ ...options, signal: AbortSignal.abort(new Error("before")) }), /before/);
  }),
);

test(
  "a thread that dies fails its requests and tells its subscribers",
  withTwin(async (options) => {
    const engine = await createEngine(options);
    const told = new Promise<EngineEvent>((resolve) =>
      engine.subscribe((event) => event.type === "failed" && resolve(event)),
    );
    await rejects(engine.fetch("/crash"), "worker_error", /crashed on request/);
    assert.equal((await told).type, "failed");
    await rejects(engine.fetch("/echo"), "worker_error", /crashed on request/);
    await engine.dispose();
  }),
);

test(
  "`await using` disposes, and an idle engine does not keep the process alive",
  withTwin(async (options) => {
    const engine = await createEngine(options);
    await engine[Symbol.asyncDispose]();
    await rejects(engine.fetch("/echo"), "disposed", /disposed/);
    const script = `import { createEngine } from "reprise";
    const engine = await createEngine({ model: new TextEncoder().encode("GGUF".padEnd(99)), assets: ${JSON.stringify(options.folder)} });
    console.log((await (await engine.fetch("/echo")).json()).url);`;
    const cwd = new URL("../../", import.meta.url);
    const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
      cwd,
      timeout: 120_000,
    });
    assert.equal(stdout, "/echo\n");
  }),
);
