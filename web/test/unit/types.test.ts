// The types as an application meets them: with the DOM's and nothing else, strictly, and with the mistakes that they must catch.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { installPackage } from "../support/package.js";
import { withFolder } from "../support/twin.js";

const TSC = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));

const APPLICATION = `
import { connect, createEngine, type Client, type EngineOptions, RepriseError } from "reprise";
import { answerFromEngine } from "reprise/service-worker";

export async function start(file: File, remote: boolean): Promise<string> {
  const options: EngineOptions = { model: { url: "/m.gguf", size: 5 }, slots: 2, onProgress: ({ loaded, total }) => console.log(loaded / total) };
  const engine = await createEngine(remote ? options : { model: file, persist: { namespace: "x" } });
  engine.subscribe((event) => event.type === "backend" && console.log(event.reason));
  const client: Client = remote ? connect({ baseURL: location.origin }) : engine;
  let text = "";
  for await (const chunk of client.chat({ messages: [{ role: "user", content: "hi" }], slot: 0 })) text += chunk.text;
  const saved: number = (await engine.slots.save(0, "a")).n_saved;
  const image: File = await engine.slots.export(0);
  const etag: string | undefined = (await client.slots.export(0)).etag;
  const newer: File | undefined = await client.slots.export(0, { ifNoneMatch: etag });
  try { await engine.slots.import(0, image); } catch (error) { if (error instanceof RepriseError) console.log(error.status, error.type); }
  const page: (input: string, init?: RequestInit) => Promise<Response> = engine.fetch;
  await engine.dispose();
  return text + saved + newer?.size + typeof page + typeof answerFromEngine;
}
`;

/** Compiles an application; gives what the compiler says. */
function compile(folder: string, settings: object): Promise<string> {
  return new Promise((resolve) => {
    void writeFile(
      join(folder, "tsconfig.json"),
      JSON.stringify({ compilerOptions: { strict: true, noEmit: true, types: [], ...settings }, include: ["*.ts"] }),
    ).then(() => execFile(process.execPath, [TSC, "-p", folder], (_, stdout) => resolve(stdout)));
  });
}

test("the types stand by themselves under both ways to resolve them", () =>
  withFolder(async (folder) => {
    await installPackage(folder);
    await writeFile(join(folder, "package.json"), '{"type": "module"}');
    await writeFile(join(folder, "app.ts"), APPLICATION);
    const browser = {
      lib: ["ES2022", "DOM", "DOM.Iterable"],
      target: "ES2022",
      module: "ESNext",
      moduleResolution: "bundler",
    };
    assert.equal(await compile(folder, browser), "");
    assert.equal(await compile(folder, { ...browser, module: "NodeNext", moduleResolution: "NodeNext" }), "");
    await writeFile(
      join(folder, "app.ts"),
      `import { createEngine } from "reprise"; await createEngine({ model: "m", slotz: 2 }); await createEngine({});`,
    );
    const complaints = await compile(folder, browser);
    assert.match(complaints, /'slotz' does not exist/);
    assert.match(complaints, /Property 'model' is missing/);
  }));
