// A package whose engine only tells what it was asked: tests of the bridge itself.

const encoder = new TextEncoder();
let aborted = 0;

export async function createEngine({ onEvent, ...options }) {
  await makeDatabase();
  onEvent({ type: "backend", backend: options.backend });
  return { info: async () => ({ backend: options.backend }), fetch: (url, init) => answer(options, url, init) };
}

async function answer(options, url, { method, headers, body, signal }) {
  if (url === "/endless") return new Response(endless(signal));
  if (url === "/breaks") return new Response(breaking());
  if (url === "/throws") throw new Error("the twin was told to");
  if (url === "/empty") return new Response(null, { status: 204 });
  const told = { method, url, headers, body: body && [...body], options, aborted };
  return new Response(JSON.stringify(told), { status: 207, headers: { "x-twin": "yes", "content-type": "application/json" } });
}

/** Counts to the end of the request. */
function endless(signal) {
  let count = 0;
  signal.addEventListener("abort", () => (aborted += 1));
  return new ReadableStream({
    async pull(stream) {
      await new Promise((resume) => setTimeout(resume, 5));
      if (signal.aborted) stream.error(signal.reason);
      else stream.enqueue(encoder.encode(`data: ${count++}\n\n`));
    },
  });
}

function breaking() {
  return new ReadableStream({
    start(stream) {
      stream.enqueue(encoder.encode("data: 0\n\n"));
      setTimeout(() => stream.error(new Error("the stream broke")), 20);
    },
  });
}

/** As the engine's. */
function makeDatabase() {
  const request = indexedDB.open("reprise", 1);
  request.onupgradeneeded = () => ["images", "chunks"].forEach((store) => request.result.createObjectStore(store));
  return new Promise((resolve) => {
    request.onsuccess = () => resolve(request.result.close());
  });
}
