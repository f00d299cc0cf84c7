// A real Chromium, and a web server for what it opens.

import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, extname, join, normalize } from "node:path";

import { chromium, type Browser } from "playwright-core";

/** The browser that `CHROMIUM` names, or the one on the path. */
function executable(): string {
  const name = process.env["CHROMIUM"] || "chromium";
  const places = name.includes("/")
    ? [name]
    : (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, name));
  for (const place of places) {
    try {
      accessSync(place, constants.X_OK);
      return place;
    } catch {
      // The next one, then.
    }
  }
  throw new Error(`there is no ${name}: install Chromium, or name one with CHROMIUM`);
}

/** Without a graphics adapter, so that there is no WebGPU; that part is the conformance suite's. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: executable(),
    args: [
      "--no-sandbox",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/** Serves folders, each below its path; the first that has a file answers. */
export class StaticServer {
  /** Paths of all requests so far. */
  readonly seen: string[] = [];
  readonly #server: Server;

  private constructor(folders: Record<string, string>, headers: Record<string, string>) {
    this.#server = createServer(async ({ url = "/" }, response) => {
      const path = normalize(decodeURIComponent(new URL(url, "http://x").pathname));
      this.seen.push(path);
      for (const [prefix, folder] of Object.entries(folders)) {
        if (!path.startsWith(prefix)) continue;
        const file = join(folder, path.slice(prefix.length), path.endsWith("/") ? "index.html" : "");
        const body = await readFile(file).catch(() => undefined);
        if (!body) continue;
        const type = TYPES[extname(file)] ?? "application/octet-stream";
        response
          .writeHead(200, {
            "content-type": type,
            "content-length": body.length,
            "cache-control": "no-store",
            ...headers,
          })
          .end(body);
        return;
      }
      response.writeHead(404, headers).end("not found");
    });
  }

  static async start(folders: Record<string, string>, isolated: boolean): Promise<StaticServer> {
    const headers = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
    const open = { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" };
    const server = new StaticServer(folders, isolated ? { ...headers, ...open } : open);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    if (!this.#server.listening) return;
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
