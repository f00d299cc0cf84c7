// The real module and a real model, for the tests that need both.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createEngine, type Engine, type EngineOptions } from "reprise";

const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";

/** Why the tests cannot run here; `false` when they can. */
export const skip = process.env["REPRISE_MODELS"] ? false : "REPRISE_MODELS names no folder with the models";

export const modelPath = (): string => join(process.env["REPRISE_MODELS"] ?? "", MODEL);

/** Runs `body` with a way to start engines that share a folder; all are disposed afterwards. */
export async function withEngines(
  body: (start: (options?: Partial<EngineOptions>) => Promise<Engine>) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "reprise-test-"));
  const engines: Engine[] = [];
  try {
    await body(async (options) => {
      const engine = await createEngine({ model: modelPath(), slots: 2, context: 1024, folder, ...options });
      engines.push(engine);
      return engine;
    });
  } finally {
    await Promise.all(engines.map((engine) => engine.dispose()));
    await rm(folder, { recursive: true, force: true });
  }
}

/** A question whose greedy answer is known from the native server, with no near-tie in it that rounding could decide. */
export const QUESTION = "Count from one to ten.";
export const ANSWER = "1. 1\n2. 2\n3. 3\n4. 4\n5. 5";
export const PROMPT_TOKENS = 36;
export const ANSWER_TOKENS = 24;
/** What the slot holds afterwards: the last token was sampled, not processed. */
export const HELD_TOKENS = PROMPT_TOKENS + ANSWER_TOKENS - 1;
