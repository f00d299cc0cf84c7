// A plain static host: the page in a folder, models beside it, none of the headers that isolate a page.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { DIST } from "./env.mjs";

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** `files` are further paths below the page's folder, each a file on the disk or a function that answers. */
export async function startStatic(files = {}, folder = "/some/folder") {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://host");
    const name = pathname.startsWith(`${folder}/`) ? pathname.slice(folder.length + 1) || "index.html" : undefined;
    const given = name === undefined ? undefined : files[name];
    if (typeof given === "function") return given(request, response);
    const file = given ?? (name === undefined ? undefined : path.join(DIST, name));
    if (file === undefined || !existsSync(file)) return response.writeHead(404).end("not here");
    send(file, request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  return {
    url: `http://127.0.0.1:${port}${folder}/`,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function send(file, request, response) {
  const { size } = statSync(file);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  response.writeHead(range ? 206 : 200, {
    "content-type": TYPES[path.extname(file)] ?? "application/octet-stream",
    "content-length": end - start + 1,
    "accept-ranges": "bytes",
    "last-modified": statSync(file).mtime.toUTCString(),
    ...(range ? { "content-range": `bytes ${start}-${end}/${size}` } : {}),
  });
  if (request.method === "HEAD") return response.end();
  createReadStream(file, { start, end }).pipe(response);
}
