// A reprise-server for a test, on a free port.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { serverPath, tinyModel } from "./env.mjs";

/** Starts one; `flags` come after those that every test needs. */
export async function startServer({ model = tinyModel, flags = [] } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), "reprise-page-"));
  const all = ["--model", model, "--port", "0", "--threads", "1", "-np", "2", "--slot-save-path", folder, ...flags];
  const child = spawn(serverPath, all, { stdio: ["ignore", "ignore", "pipe"] });
  // A test that failed does not stop it, and would wait for it for ever.
  process.once("exit", () => child.kill("SIGKILL"));
  const seen = [];
  const url = await new Promise((resolve, reject) => {
    createInterface({ input: child.stderr }).on("line", (line) => {
      seen.push(line);
      const found = line.match(/listening on (http:\S+)/);
      if (found) resolve(found[1]);
    });
    child.once("exit", () => reject(new Error(`the server did not come up:\n${seen.join("\n")}`)));
  });
  return {
    url,
    async stop() {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
