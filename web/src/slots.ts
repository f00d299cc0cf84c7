// Slots: listing, saving, restoring and erasing by name, and their images as files.

import type { Call } from "./client.js";
import type { RestoredFile, SavedSlot, Slot, SlotImage } from "./types.js";

/** The slots of an engine or a server. */
export class Slots {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  list(): Promise<Slot[]> {
    return this.#call("/slots");
  }

  /** Writes the slot's state into the store. A name is one path component without `/ \ : * ? " < > |`. */
  save(slot: number, name: string): Promise<SavedSlot> {
    return this.#act(slot, "save", { filename: name });
  }

  /** Replaces the slot's state by a saved one. A bad image changes nothing. */
  restore(slot: number, name: string): Promise<RestoredFile> {
    return this.#act(slot, "restore", { filename: name });
  }

  /** Forgets the slot's tokens. */
  erase(slot: number): Promise<{ id_slot: number; n_erased: number }> {
    return this.#act(slot, "erase");
  }

  /** The slot's state as a file, in the format that server and browser share. */
  export(slot: number): Promise<SlotImage>;
  /** The same; `undefined` if the slot still has the state with this `etag`. */
  export(slot: number, options: { ifNoneMatch?: string | undefined }): Promise<SlotImage | undefined>;
  async export(slot: number, { ifNoneMatch }: { ifNoneMatch?: string | undefined } = {}): Promise<SlotImage | undefined> {
    const init = ifNoneMatch === undefined ? {} : { headers: { "if-none-match": ifNoneMatch } };
    const response = await this.#call.response(`/slots/${slot}/state`, init);
    if (response.status === 304) return undefined;
    const file = new File([await response.blob()], `slot-${slot}.bin`, { type: "application/octet-stream" });
    return Object.assign(file, { etag: response.headers.get("etag") ?? undefined });
  }

  /** Replaces the slot's state by an exported one. A bad image changes nothing. */
  import(slot: number, image: Blob | ArrayBuffer | Uint8Array): Promise<RestoredFile> {
    const headers = { "content-type": "application/octet-stream" };
    // TypeScript tells apart views that may be shared; sharing makes no difference to a copy.
    return this.#call(`/slots/${slot}/state`, { method: "PUT", headers, body: image as BodyInit });
  }

  #act<T>(slot: number, action: string, body: Record<string, string> = {}): Promise<T> {
    return this.#call(`/slots/${slot}?action=${action}`, { method: "POST", body: JSON.stringify(body) });
  }
}
