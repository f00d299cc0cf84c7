// A real HTTP server for one file, with ranges, validators, and the faults that downloads meet.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FileServerOptions {
  etag?: string | undefined;
  lastModified?: string;
  /** Whether ranges are understood; on by default. */
  ranges?: boolean;
  /**
   * For each request in turn: how many bytes of the body are sent before the connection is cut. After 0 it is cut at once,
   * else by `cutNow`: only the client knows when bytes have arrived.
   */
  cuts?: (number | undefined)[];
  /** For each request in turn: a status to answer with instead. */
  statuses?: (number | undefined)[];
  /** Lets pages of other origins read the file, but no headers beyond those that every page may read. */
  cors?: boolean;
  /** Sends no length, as a server does that compresses while it sends. */
  chunked?: boolean;
}

export interface Seen {
  range: string | undefined;
  ifRange: string | undefined;
  authorization: string | undefined;
}

export class FileServer {
  /** The requests so far. */
  readonly seen: Seen[] = [];
  readonly options: FileServerOptions;
  body: Uint8Array;
  readonly #server: Server;
  readonly #held = new Set<ServerResponse>();

  private constructor(body: Uint8Array, options: FileServerOptions) {
    this.body = body;
    this.options = options;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(body: Uint8Array, options: FileServerOptions = {}): Promise<FileServer> {
    const server = new FileServer(body, options);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/models/tiny%20model.gguf?x=1`;
  }

  /** Cuts the connections that were to be cut. */
  cutNow(): void {
    for (const response of this.#held) response.destroy();
    this.#held.clear();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer({ headers }: IncomingMessage, response: ServerResponse): void {
    const { range } = headers;
    const ifRange = headers["if-range"] as string | undefined;
    this.seen.push({ range, ifRange, authorization: headers.authorization });
    const { etag, lastModified, ranges = true, chunked, cors } = this.options;
    const status = this.options.statuses?.shift();
    const cut = this.options.cuts?.shift();
    if (status !== undefined) {
      response.writeHead(status, { "content-type": "text/plain" }).end("no");
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    const partial =
      ranges && range !== undefined && (ifRange === undefined || ifRange === etag || ifRange === lastModified);
    if (partial && from >= this.body.length) {
      response.writeHead(416, { "content-range": `bytes */${this.body.length}` }).end();
      return;
    }
    const part = partial ? this.body.subarray(from) : this.body;
    if (cors)
      response.setHeader("access-control-allow-origin", "*").setHeader("cross-origin-resource-policy", "cross-origin");
    if (etag) response.setHeader("etag", etag);
    if (lastModified) response.setHeader("last-modified", lastModified);
    if (!chunked) response.setHeader("content-length", part.length);
    if (partial) response.setHeader("content-range", `bytes ${from}-${this.body.length - 1}/${this.body.length}`);
    response.writeHead(partial ? 206 : 200);
    if (cut === undefined) {
      response.end(part);
      return;
    }
    if (cut === 0) {
      response.flushHeaders();
      response.destroy();
      return;
    }
    response.write(part.subarray(0, cut));
    this.#held.add(response);
  }
}
