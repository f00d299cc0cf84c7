// Where the tests find what they need: a browser, the server's binary, models.
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
export const DIST = path.join(ROOT, "www/dist");

const { CHROMIUM = "/usr/bin/chromium", REPRISE_SERVER, REPRISE_FIXTURES, REPRISE_MODELS } = process.env;

export const chromiumPath = CHROMIUM;
export const serverPath = REPRISE_SERVER ?? path.join(ROOT, "target/debug/reprise-server");

/** A generated model: it talks nonsense, quickly. */
export const tinyModel = path.join(REPRISE_FIXTURES ?? path.join(ROOT, "target/fixtures"), "tiny-llama-spm.gguf");

/** A model that answers. */
export const realModel = path.join(
  REPRISE_MODELS ?? path.join(homedir(), ".cache/reprise/models"),
  "SmolLM2-135M-Instruct.Q4_1.gguf",
);

for (const [file, how] of [
  [path.join(DIST, "index.html"), "npm run build"],
  [serverPath, "cargo build --workspace"],
  [tinyModel, "cargo run -p conformance -- --write-fixtures target/fixtures"],
]) {
  if (!existsSync(file)) throw new Error(`${file} is missing: ${how}`);
}
