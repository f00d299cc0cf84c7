// A plain HTTP server in front of a page: every request goes raw to the page's `engine.fetch`, the answer comes back as
// it is made, and a client that leaves aborts its request.

import { createServer } from "node:http";

export class Pipe {
  #server = createServer();
  /** Responses being made, by request number. */
  #open = new Map();
  #next = 1;
  #channel;
  /** Requests that wait until a page is there. */
  #waiting = [];

  /** Listens on a free port. */
  static async open() {
    const pipe = new Pipe();
    await new Promise((resolve) => pipe.#server.listen(0, "127.0.0.1", resolve));
    pipe.#server.on("request", (request, response) => {
      pipe.#take(request, response).catch((error) => fail(response, { message: String(error) }));
    });
    // A request may take as long as a scenario lets it.
    pipe.#server.requestTimeout = 0;
    return pipe;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Sends requests to a page from now on, until its channel closes. */
  connect(channel) {
    this.#channel = channel;
    channel.onMessage((head, bytes) => this.#receive(head, bytes));
    channel.onClose(() => this.#channel === channel && this.disconnect());
    for (const resume of this.#waiting.splice(0)) resume();
  }

  /** What the page was answering breaks off; what comes next waits for the next page. */
  disconnect() {
    this.#channel?.close();
    this.#channel = undefined;
    for (const response of this.#open.values()) response.destroy();
    this.#open.clear();
  }

  close() {
    this.disconnect();
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async #take(request, response) {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    while (!this.#channel) await new Promise((resolve) => this.#waiting.push(resolve));
    const [channel, id] = [this.#channel, this.#next++];
    this.#open.set(id, response);
    response.on("close", () => {
      // An answer that is complete was taken out before.
      if (this.#open.delete(id)) channel.send({ id, abort: true });
    });
    const headers = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) headers.push(request.rawHeaders.slice(at, at + 2));
    channel.send({ id, method: request.method, url: request.url, headers }, Buffer.concat(pieces));
  }

  #receive({ id, status, headers, end, failed }, bytes) {
    const response = this.#open.get(id);
    if (!response) return;
    if (end || failed) this.#open.delete(id);
    if (failed) return fail(response, failed);
    if (status) {
      response.writeHead(status, headers.flat());
      response.flushHeaders();
    }
    if (bytes.length > 0) response.write(bytes);
    if (end) response.end();
  }
}

/** The library failed, not the engine: nothing that a scenario expects. */
function fail(response, error) {
  if (response.headersSent) return response.destroy();
  response.writeHead(502, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: { code: 502, type: "bridge_error", message: JSON.stringify(error) } }));
}
