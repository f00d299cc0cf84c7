// What is known of a kept model file, in a small file beside it. Only a record that says so makes a file whole.

import type { CachedModel } from "../types.js";
import type { Folder } from "./folder.js";

export interface ModelRecord {
  version: 1;
  url: string;
  name: string;
  /** Bytes of the whole file; null while unknown. */
  size: number | null;
  /** Validators of the response that the bytes came from. */
  etag: string | null;
  lastModified: string | null;
  sha256: string | null;
  /** The whole file is there and was verified. */
  complete: boolean;
  created: number;
}

const RECORD = ".json";
const DATA = ".gguf";

export const recordName = (base: string): string => base + RECORD;
export const dataName = (base: string): string => base + DATA;

/** A record; `undefined` when there is none, or one that was torn while it was written. */
export async function readRecord(folder: Folder, base: string): Promise<ModelRecord | undefined> {
  const source = await folder.source(recordName(base));
  if (!source) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await source.read(0, source.size));
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  } finally {
    await source.close?.();
  }
}

export async function writeRecord(folder: Folder, base: string, record: ModelRecord): Promise<void> {
  const file = await folder.open(recordName(base));
  try {
    // In this order, a crash in between leaves no JSON, never an old record beside new data.
    file.truncate(0);
    file.flush();
    file.write(new TextEncoder().encode(JSON.stringify(record)), 0);
    file.flush();
  } finally {
    file.close();
  }
}

function isRecord(value: unknown): value is ModelRecord {
  if (typeof value !== "object" || value === null) return false;
  const { version, url, name, size, complete } = value as Partial<ModelRecord>;
  return (
    version === 1 &&
    typeof url === "string" &&
    typeof name === "string" &&
    (size === null || typeof size === "number") &&
    typeof complete === "boolean"
  );
}

/** Every file of the cache, whole or not. */
export async function listRecords(folder: Folder): Promise<{ base: string; model: CachedModel }[]> {
  const listed: { base: string; model: CachedModel }[] = [];
  for (const file of await folder.list()) {
    if (!file.endsWith(RECORD)) continue;
    const base = file.slice(0, -RECORD.length);
    const record = await readRecord(folder, base);
    if (!record) continue;
    const data = await folder.source(dataName(base));
    const loaded = data?.size ?? 0;
    await data?.close?.();
    const { url, name, size, sha256, created } = record;
    const complete = record.complete && loaded === size;
    listed.push({ base, model: { url, name, size, loaded, complete, sha256, created } });
  }
  return listed.sort((a, b) => a.model.created - b.model.created);
}

/** Removes a file; tells whether there was one. */
export async function removeRecord(folder: Folder, url: string): Promise<boolean> {
  const found = (await listRecords(folder)).filter(({ model }) => model.url === url);
  for (const { base } of found) {
    // The record first: data without a record counts as nothing.
    await folder.remove(recordName(base));
    await folder.remove(dataName(base));
  }
  return found.length > 0;
}
