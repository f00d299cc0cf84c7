// Errors keep their status, type and words on the way through the channel and out of wire bodies.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBody, fromParts, fromResponse, RepriseError, toParts } from "reprise/dist/errors.js";

test("an error crosses the channel and stays the same", () => {
  const error = new RepriseError("no", { status: 404, type: "model_not_found", cause: new Error("why") });
  const back = fromParts(structuredClone(toParts(error)));
  assert.ok(back instanceof RepriseError);
  assert.deepEqual(
    [back.name, back.status, back.type, back.message, (back.cause as Error).message],
    ["RepriseError", 404, "model_not_found", "no", "why"],
  );
});

test("the module's errors have a code for a status; other things become internal errors", () => {
  const wasm = Object.assign(new Error("full"), { name: "RepriseError", code: 507, type: "storage_full" });
  assert.deepEqual(toParts(wasm), { name: "RepriseError", status: 507, type: "storage_full", message: "full" });
  assert.deepEqual(toParts("just text"), {
    name: "RepriseError",
    status: 500,
    type: "internal_error",
    message: "just text",
  });
  assert.equal(toParts(new TypeError("x")).type, "internal_error");
  const abort = fromParts(toParts(new DOMException("stop", "AbortError")));
  assert.ok(abort instanceof DOMException);
  assert.equal(abort.name, "AbortError");
});

test("wire bodies are understood, ours and a stranger's", async () => {
  const body = { error: { code: 400, message: "too long", type: "exceed_context_size_error", n_ctx: 8 } };
  const error = fromBody(body, 500);
  assert.ok(error);
  assert.deepEqual(
    [error.status, error.type, error.message, error.cause],
    [400, "exceed_context_size_error", "too long", body],
  );
  assert.equal(fromBody({ choices: [] }, 200), undefined);
  assert.equal(fromBody(null, 200), undefined);
  const page = await fromResponse(new Response("<html>bad gateway</html>", { status: 502 }));
  assert.deepEqual(
    [page.status, page.type, page.message],
    [502, "server_error", "status 502: <html>bad gateway</html>"],
  );
  const empty = await fromResponse(new Response(null, { status: 500, statusText: "Internal" }));
  assert.equal(empty.message, "status 500: Internal");
});
