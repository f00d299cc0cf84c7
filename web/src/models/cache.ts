// The model cache: a file is downloaded once, verified, and read from disk from then on, also offline.

import { failure, RepriseError } from "../errors.js";
import { Download, noRoom, type DownloadTools, type Wanted } from "./download.js";
import type { Folder, Source } from "./folder.js";
import { dataName, listRecords, readRecord, recordName, writeRecord, type ModelRecord } from "./record.js";

export interface CacheTools extends DownloadTools {
  /** Runs `body` while no other tab has the lock of that name. */
  lock: <T>(name: string, body: () => Promise<T>) => Promise<T>;
}

export type CacheProgress = (phase: "download" | "verify", loaded: number, total: number) => void;

/** The scheme of files that were not downloaded but given, and kept. */
export const GIVEN = "kept:";

/** Keeps model files in a folder. */
export class ModelCache {
  readonly #folder: Folder;
  readonly #tools: CacheTools;

  constructor(folder: Folder, tools: CacheTools) {
    this.#folder = folder;
    this.#tools = tools;
  }

  /** The file of a URL: from the folder when it is whole, else downloaded first. */
  async open(wanted: Wanted, progress: CacheProgress, signal: AbortSignal): Promise<Source> {
    const base = this.#base(wanted.url);
    return this.#tools.lock(`reprise/model/${base}`, async () => {
      signal.throwIfAborted();
      const record = await readRecord(this.#folder, base);
      const kept = record && (await this.#whole(base, record, wanted));
      if (kept) return kept;
      if (wanted.url.startsWith(GIVEN)) throw failure("model_not_found", `No file is kept as ${wanted.url}.`);
      return this.#download(base, wanted, record, progress, signal);
    });
  }

  /** Keeps a file that was given; afterwards it can be opened as `kept:NAME`. */
  async keep(name: string, blob: Blob, progress: CacheProgress, signal: AbortSignal): Promise<Source> {
    const url = GIVEN + name;
    const base = this.#base(url);
    return this.#tools.lock(`reprise/model/${base}`, async () => {
      const response = (): Promise<Response> => Promise.resolve(new Response(blob.stream()));
      await this.#remove(base);
      const tools = { ...this.#tools, fetch: response };
      return this.#download(base, { url, size: blob.size }, undefined, progress, signal, tools);
    });
  }

  /** Forgets the file of a URL. */
  discard(url: string): Promise<void> {
    return this.#remove(this.#base(url));
  }

  /** The kept file, if it is whole and the one that is wanted. */
  async #whole(base: string, record: ModelRecord, { size, sha256 }: Wanted): Promise<Source | undefined> {
    if (!record.complete) return undefined;
    const source = await this.#folder.source(dataName(base));
    const same =
      source?.size === record.size &&
      (size === undefined || size === record.size) &&
      (sha256 === undefined || sha256.toLowerCase() === record.sha256);
    if (same) return source;
    await source?.close?.();
    await this.#remove(base);
    return undefined;
  }

  async #download(
    base: string,
    wanted: Wanted,
    before: ModelRecord | undefined,
    progress: CacheProgress,
    signal: AbortSignal,
    tools: DownloadTools = this.#tools,
  ): Promise<Source> {
    const fresh: ModelRecord = {
      version: 1,
      url: wanted.url,
      name: nameOf(wanted.url),
      size: null,
      etag: null,
      lastModified: null,
      sha256: null,
      complete: false,
      created: Date.now(),
    };
    const part = before && !before.complete ? before : fresh;
    const file = await this.#open(dataName(base), wanted.url);
    let whole: ModelRecord;
    try {
      const begun = (record: ModelRecord): Promise<void> => writeRecord(this.#folder, base, record);
      whole = await new Download(wanted, part, file, tools, { progress, begun }, signal).run();
      file.flush();
    } catch (thrown) {
      const nothing = file.size === 0;
      file.close();
      if (nothing || !keepsPart(thrown)) await this.#remove(base);
      throw thrown;
    }
    file.close();
    const source = await this.#folder.source(dataName(base));
    if (source?.size !== whole.size) {
      // Bytes that were taken and verified, and are not there: the storage was full all the same.
      await source?.close?.();
      await this.#remove(base);
      throw noRoom(whole.size, undefined);
    }
    await writeRecord(this.#folder, base, whole);
    return source;
  }

  async #open(name: string, url: string): ReturnType<Folder["open"]> {
    try {
      return await this.#folder.open(name);
    } catch (thrown) {
      throw failure("internal_error", `The file of ${url} is in use, perhaps by another tab.`, thrown);
    }
  }

  async #remove(base: string): Promise<void> {
    await this.#folder.remove(recordName(base));
    await this.#folder.remove(dataName(base));
  }

  /** Names files so that any URL is a good one. */
  #base(url: string): string {
    const hasher = this.#tools.hasher();
    hasher.update(new TextEncoder().encode(url));
    return hasher.finish().slice(0, 32);
  }

  /** Everything that is kept. */
  async list(): Promise<Awaited<ReturnType<typeof listRecords>>> {
    return listRecords(this.#folder);
  }
}

/** After these the part is as good as before; after all others the file is wrong. */
function keepsPart(thrown: unknown): boolean {
  if (!(thrown instanceof RepriseError)) return true;
  return ["network_error", "offline", "model_not_found", "internal_error"].includes(thrown.type);
}

/** The last part of a URL's path. */
export function nameOf(url: string): string {
  const path = url.startsWith(GIVEN) ? url.slice(GIVEN.length) : url.replace(/[?#].*$/, "");
  const last =
    path
      .split("/")
      .filter((part) => part !== "")
      .pop() ?? url;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}
