// How much this origin stores, and whether the browser has promised to keep it.

/** Bytes used and available to this origin, and whether the browser promised to keep them. */
export interface StorageState {
  used: number;
  quota: number;
  persisted: boolean;
}

/** What is stored; `undefined` where the browser does not tell. */
export async function storageState(): Promise<StorageState | undefined> {
  const storage = globalThis.navigator?.storage;
  if (typeof storage?.estimate !== "function") return undefined;
  const { usage = 0, quota = 0 } = await storage.estimate();
  return { used: usage, quota, persisted: (await storage.persisted?.()) ?? false };
}

let asked: Promise<boolean> | undefined;

/** Asks, once in the life of a page, that the browser does not clear what is stored. Some ask the person. */
export function askToPersist(): Promise<boolean> {
  const storage = globalThis.navigator?.storage;
  asked ??= (async () => {
    if (typeof storage?.persist !== "function") return false;
    return (await storage.persisted()) || (await storage.persist());
  })();
  return asked;
}
