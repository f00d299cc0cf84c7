// The web server of the pages under test: the page itself, the package's `dist`, and model files with ranges.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

import { accept } from "./channel.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));

/** The package as it is built, or another build of it. */
const PACKAGE = process.env.REPRISE_PACKAGE ?? fileURLToPath(new URL("../../web/dist/", import.meta.url));

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

const ISOLATED = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
};

/** Serves one origin. Everything under `/plain/` is the same without the headers of cross-origin isolation. */
export class Site {
  #server;
  /** Folders by the first part of the path. */
  #folders;
  /** Model files by their number. */
  #models = [];
  /** Who waits for a page to open a channel, by path. */
  #expected = new Map();
  #channels = 0;
  /** Answers of a test's own, by path: `(request, response) => void`. */
  #handlers = new Map();

  constructor(server, folders) {
    this.#server = server;
    this.#folders = folders;
    server.on("upgrade", async (request, socket, head) => {
      const take = this.#expected.get(request.url);
      this.#expected.delete(request.url);
      take ? take(await accept(request, socket, head)) : socket.destroy();
    });
    server.on("request", (request, response) => {
      this.#answer(request, response).catch((error) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(String(error));
      });
    });
  }

  /** Listens on a free port. */
  static async open() {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Site(server, { page: join(here, "page"), reprise: PACKAGE, openai: join(here, "node_modules/openai") });
  }

  /** Without a slash at its end. */
  get origin() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Makes a file available as a model; its URL ends with the file's name. */
  model(file) {
    let number = this.#models.indexOf(file);
    if (number < 0) number = this.#models.push(file) - 1;
    return `${this.origin}/models/${number}/${encodeURIComponent(basename(file))}`;
  }

  /** Lets a test answer a path itself; gives the URL. */
  handle(path, handler) {
    this.#handlers.set(path, handler);
    return this.origin + path;
  }

  /** The path of a channel that a page is about to open, and a promise of it. */
  expectChannel() {
    const path = `/channels/${this.#channels++}`;
    return [path, new Promise((resolve) => this.#expected.set(path, resolve))];
  }

  close() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request, response) {
    let { pathname } = new URL(request.url, "http://site");
    const plain = pathname.startsWith("/plain/");
    if (plain) pathname = pathname.slice("/plain".length);
    for (const [name, value] of Object.entries(plain ? {} : ISOLATED)) response.setHeader(name, value);
    response.setHeader("cache-control", "no-store");
    const handler = this.#handlers.get(pathname);
    if (handler) return handler(request, response);
    const file = this.#file(decodeURIComponent(pathname));
    const found = file && (await stat(file).catch(() => undefined));
    if (!found?.isFile()) return void response.writeHead(404).end("there is no such file");
    sendFile(request, response, file, found.size);
  }

  #file(path) {
    const [, first, ...rest] = path.split("/");
    if (first === "models") return this.#models[Number(rest[0])];
    const folder = this.#folders[first];
    if (!folder || rest.length === 0) return undefined;
    const file = normalize(join(folder, ...rest));
    return file.startsWith(normalize(folder + sep)) ? file : undefined;
  }
}

/** Sends a file, or the part of it that is asked for. */
export function sendFile(request, response, file, size) {
  response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
  response.setHeader("accept-ranges", "bytes");
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  if (range && start > end) return void response.writeHead(416, { "content-range": `bytes */${size}` }).end();
  const head = { "content-length": end - start + 1 };
  if (range) head["content-range"] = `bytes ${start}-${end}/${size}`;
  response.writeHead(range ? 206 : 200, head);
  if (request.method === "HEAD" || size === 0) return void response.end();
  createReadStream(file, { start, end }).pipe(response);
}
