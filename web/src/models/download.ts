// One download into one open file: resumed where it broke off, held to what is known of the file.

import { failure, messageOf, RepriseError } from "../errors.js";
import type { Writable } from "./folder.js";
import type { ModelRecord } from "./record.js";

/** A SHA-256 that is fed piece by piece; `finish` gives lower-case hexadecimal. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  finish(): string;
}

/** What a download needs from the platform. */
export interface DownloadTools {
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  hasher: () => Hasher;
  /** `false` when the machine knows that it is offline. */
  online: () => boolean;
  /** Whether `If-Range` may be sent: to another origin it would need the server's permission. */
  mayAskIfRange: (url: string) => boolean;
  /** Waits; milliseconds. */
  pause: (time: number) => Promise<void>;
  /** Bytes that storage still takes; `undefined` when it is not known. */
  free: () => Promise<number | undefined>;
}

export interface Wanted {
  url: string;
  sha256?: string;
  size?: number;
  headers?: Record<string, string>;
}

export interface DownloadEvents {
  progress: (phase: "download" | "verify", loaded: number, total: number) => void;
  /** Called before the first byte of a new version is written. */
  begun: (record: ModelRecord) => Promise<void>;
}

/** Attempts in a row that bring nothing before the download gives up. */
const ATTEMPTS = 5;
/** Bytes that are read at once when a part is hashed again. */
const PIECE = 16 * 1024 * 1024;
const MAGIC = new TextEncoder().encode("GGUF");

/** Downloads `wanted` into `file`, which may hold a part of it that `record` describes. Gives the record of the whole file. */
export class Download {
  readonly #wanted: Wanted;
  readonly #file: Writable;
  readonly #tools: DownloadTools;
  readonly #events: DownloadEvents;
  readonly #signal: AbortSignal;
  #record: ModelRecord;
  /** Bytes that are there, and their hash. */
  #have = 0;
  #hasher: Hasher;
  #resumed = false;

  constructor(
    wanted: Wanted,
    record: ModelRecord,
    file: Writable,
    tools: DownloadTools,
    events: DownloadEvents,
    signal: AbortSignal,
  ) {
    [this.#wanted, this.#record, this.#file, this.#tools, this.#events] = [wanted, record, file, tools, events];
    this.#signal = signal;
    this.#hasher = tools.hasher();
  }

  async run(): Promise<ModelRecord> {
    await this.#takePart();
    for (let failures = 0; ;) {
      const before = this.#have;
      const broken = await this.#attempt();
      this.#file.flush();
      if (broken === undefined) {
        const sha256 = this.#hasher.finish();
        if (!this.#wanted.sha256 || sha256 === this.#wanted.sha256.toLowerCase()) return this.#whole(sha256);
        if (!this.#resumed) throw this.#mismatch(sha256);
        // The part may have been of another version that no validator told apart.
        this.#restart();
        continue;
      }
      failures = this.#have > before ? 1 : failures + 1;
      if (failures >= ATTEMPTS) throw this.#gaveUp(broken);
      await this.#tools.pause(250 * 2 ** failures);
      this.#signal.throwIfAborted();
    }
  }

  /** Goes on with what an earlier download left, if it can be told that it is of the same file. */
  async #takePart(): Promise<void> {
    const { etag, lastModified, size } = this.#record;
    const known = etag !== null || lastModified !== null || this.#wanted.sha256 !== undefined;
    const fits = size === null || this.#file.size <= size;
    if (!known || !fits) return this.#restart();
    const part = this.#file.size;
    while (this.#have < part) {
      const piece = this.#file.read(this.#have, Math.min(PIECE, part - this.#have));
      this.#hasher.update(piece);
      this.#have += piece.length;
      this.#events.progress("verify", this.#have, part);
      // Lets the message in that cancels.
      await this.#tools.pause(0);
      this.#signal.throwIfAborted();
    }
    this.#resumed = part > 0;
  }

  #restart(): void {
    this.#file.truncate(0);
    this.#have = 0;
    this.#hasher = this.#tools.hasher();
    this.#resumed = false;
  }

  /** One request. Gives the reason when it broke off and may be tried again; throws when that is pointless. */
  async #attempt(): Promise<unknown> {
    if (this.#have > 0 && this.#have === this.#record.size) return undefined;
    let response: Response;
    try {
      response = await this.#tools.fetch(this.#wanted.url, {
        headers: this.#headers(),
        signal: this.#signal,
        // The file is kept here; the browser's cache need not keep it too.
        cache: "no-store",
      });
    } catch (thrown) {
      this.#signal.throwIfAborted();
      return thrown;
    }
    if (response.status >= 500 || response.status === 429) {
      await response.body?.cancel();
      return new Error(`status ${response.status}`);
    }
    if (response.status === 416) {
      await response.body?.cancel();
      this.#restart();
      return new Error("the part that was there does not fit the file any more");
    }
    if (!response.ok) {
      await response.body?.cancel();
      throw this.#refused(response.status);
    }
    return this.#receive(response);
  }

  #headers(): Record<string, string> {
    const headers: Record<string, string> = { ...this.#wanted.headers };
    if (this.#have === 0) return headers;
    headers["range"] = `bytes=${this.#have}-`;
    // A weak validator does not promise the same bytes.
    const { etag, lastModified } = this.#record;
    const validator = etag !== null && !etag.startsWith("W/") ? etag : lastModified;
    if (validator !== null && this.#tools.mayAskIfRange(this.#wanted.url)) headers["if-range"] = validator;
    return headers;
  }

  async #receive(response: Response): Promise<unknown> {
    const total = await this.#begin(response);
    if (total === "changed") {
      await response.body?.cancel();
      this.#restart();
      return new Error("the file on the server has changed");
    }
    const reader = response.body?.getReader();
    if (!reader) return new Error("the response has no body");
    try {
      for (;;) {
        const read = await reader.read().catch((thrown: unknown) => ({ broken: thrown }));
        this.#signal.throwIfAborted();
        // Only the connection is tried again; what fails here would fail again.
        if ("broken" in read) return read.broken ?? new Error("the connection broke");
        if (read.done) break;
        this.#take(read.value, total);
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
    if (total !== null && this.#have < total) return new Error("the connection was closed");
    if (this.#have === 0) throw failure("invalid_model_error", `${this.#wanted.url} is an empty file.`);
    return undefined;
  }

  /** Reads the head of a response: whether it goes on with the part, and how large the whole file is. */
  async #begin(response: Response): Promise<number | null | "changed"> {
    const head = (name: string): string | null => response.headers.get(name);
    const { etag, lastModified } = this.#record;
    let total: number | null;
    if (response.status === 206) {
      const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(head("content-range") ?? "");
      if (range && Number(range[1]) !== this.#have) return "changed";
      const differs = (now: string | null, then: string | null): boolean =>
        now !== null && then !== null && now !== then;
      if (differs(head("etag"), etag) || differs(head("last-modified"), lastModified)) return "changed";
      const rest = lengthOf(response);
      total = range && range[2] !== "*" ? Number(range[2]) : rest === null ? this.#record.size : this.#have + rest;
      if (total !== null && this.#record.size !== null && total !== this.#record.size) return "changed";
    } else {
      this.#restart();
      total = lengthOf(response) ?? this.#wanted.size ?? null;
      this.#record = { ...this.#record, etag: head("etag"), lastModified: head("last-modified") };
    }
    const { size, url } = this.#wanted;
    if (total !== null && size !== undefined && total !== size) {
      await response.body?.cancel();
      throw failure("size_mismatch", `${url} has ${total} bytes, not ${size} as expected.`);
    }
    if (total !== null) await this.#checkRoom(total, response);
    this.#record = { ...this.#record, size: total };
    await this.#events.begun(this.#record);
    return total;
  }

  async #checkRoom(total: number, response: Response): Promise<void> {
    const free = await this.#tools.free();
    if (free === undefined || total - this.#have <= free) return;
    await response.body?.cancel();
    throw noRoom(total, free);
  }

  #take(bytes: Uint8Array, total: number | null): void {
    if (this.#have < MAGIC.length) checkMagic(bytes, this.#have, this.#wanted.url);
    try {
      this.#file.write(bytes, this.#have);
    } catch (thrown) {
      const full = (thrown as { name?: unknown }).name === "QuotaExceededError";
      const say = `The model file cannot be stored: ${messageOf(thrown)}`;
      throw full ? noRoom(total, undefined, thrown) : failure("internal_error", say, thrown);
    }
    this.#hasher.update(bytes);
    this.#have += bytes.length;
    this.#events.progress("download", this.#have, Math.max(total ?? 0, this.#have));
  }

  #whole(sha256: string): ModelRecord {
    const { size, url } = this.#wanted;
    if (size !== undefined && size !== this.#have) {
      throw failure("size_mismatch", `${url} has ${this.#have} bytes, not ${size} as expected.`);
    }
    return { ...this.#record, size: this.#have, sha256, complete: true };
  }

  #mismatch(found: string): RepriseError {
    const { url, sha256 } = this.#wanted;
    return failure(
      "checksum_mismatch",
      `${url} has the SHA-256 ${found}, not ${sha256} as expected: it is another file or was damaged. It was not kept.`,
    );
  }

  #refused(status: number): RepriseError {
    const { url } = this.#wanted;
    if (status === 404 || status === 410) {
      return failure("model_not_found", `There is no model at ${url} (status ${status}).`);
    }
    const why = status === 401 || status === 403 ? ": it needs a token, or does not allow this page" : "";
    return failure("network_error", `${url} was refused with status ${status}${why}.`);
  }

  #gaveUp(reason: unknown): RepriseError {
    const { url } = this.#wanted;
    const kept = this.#have > 0 ? ` ${this.#have} bytes are kept, and the next try goes on from there.` : "";
    if (!this.#tools.online()) {
      return failure("offline", `You are offline, and ${url} has not been downloaded completely yet.${kept}`, reason);
    }
    const say = `${url} cannot be downloaded: ${messageOf(reason)} (no connection, or the server does not allow this page).`;
    return failure("network_error", say + kept, reason);
  }
}

/** Fails for what is certainly no GGUF, for instance the page that some servers answer instead of a 404. */
export function checkMagic(bytes: Uint8Array, at: number, name: string): void {
  const wanted = MAGIC.subarray(at, at + bytes.length);
  if (wanted.every((byte, index) => bytes[index] === byte)) return;
  const begin = new TextDecoder().decode(bytes.subarray(0, 16)).replace(/[^\x20-\x7e]/g, "·");
  throw failure("invalid_model_error", `${name} is not a GGUF file: it begins with "${begin}".`);
}

/** Bytes of a body; `null` when it is not known, or counts compressed bytes. */
function lengthOf(response: Response): number | null {
  const length = response.headers.get("content-length");
  const encoding = response.headers.get("content-encoding") ?? "identity";
  return length !== null && /^\d+$/.test(length) && encoding === "identity" ? Number(length) : null;
}

/** The storage is too small; `null` and `undefined` for numbers that are not known. */
export function noRoom(needed: number | null, free: number | undefined, cause?: unknown): RepriseError {
  const needs = needed === null ? "" : ` It needs ${needed} bytes${free === undefined ? "" : `; ${free} are free`}.`;
  return failure(
    "storage_full",
    `There is no room in this browser's storage for the model file.${needs} Delete a model, free disk space, or create ` +
      "the engine with {cache: false}.",
    cause,
  );
}
