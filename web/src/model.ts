// The `model` option as a message: what kind of thing it is, its name, and an absolute URL.

import { GIVEN } from "./models/cache.js";
import type { WireModel } from "./protocol.js";
import type { Model } from "./types.js";

/** Name of a model that came without one. */
const UNNAMED = "model.gguf";

/** Reads the option; `base` is what relative URLs are relative to. */
export function toWireModel(model: Model, base: string | undefined): WireModel {
  if (model instanceof Blob) {
    return {
      kind: "blob",
      blob: model,
      name: "name" in model && typeof model.name === "string" ? model.name : UNNAMED,
    };
  }
  if (model instanceof ArrayBuffer) return { kind: "bytes", bytes: new Uint8Array(model), name: UNNAMED };
  if (model instanceof Uint8Array) return { kind: "bytes", bytes: model, name: UNNAMED };
  if (typeof model === "string" || model instanceof URL) return { kind: "url", url: absolute(model, base) };
  if (typeof model !== "object" || model === null || !("url" in model)) {
    throw new TypeError("`model` must be a URL, a File, bytes, or an object with a url");
  }
  const { url, sha256, size, headers } = model;
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw new TypeError("`sha256` must be 64 hexadecimal digits");
  }
  return { kind: "url", url: absolute(url, base), sha256, size, headers };
}

function absolute(url: string | URL, base: string | undefined): string {
  return typeof url === "string" && url.startsWith(GIVEN) ? url : new URL(url, base).href;
}
