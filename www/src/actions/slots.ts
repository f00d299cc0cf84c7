// What can be done with a slot, and keeping the picture of the slots fresh.
import { host, state } from "../app";
import { bytes, count, duration } from "../format";
import { keepChoices, loadChoices } from "../remember";
import { slotView } from "../slotview";
import { explain } from "../trouble";
import { refreshStorage } from "./storage";

/** Milliseconds between two looks at the slots: while an answer runs, and while none does. */
const BUSY = 250;
const IDLE = 2500;

/** The number of the last look that was begun, and of the newest one that is drawn. */
let begun = 0;
let drawn = 0;

/** Asks for the slots; a failure leaves the last picture, and so does an answer that a younger one has overtaken. */
export async function refreshSlots(): Promise<void> {
  const current = host();
  if (!current?.listsSlots) return;
  begun += 1;
  const look = begun;
  try {
    const slots = (await current.client.slots.list()).map(slotView);
    if (host() !== current || look < drawn) return;
    drawn = look;
    state.slots.value = slots;
  } catch {
    // The next look tells; what matters to the reader fails loudly in the conversation.
  }
}

/** Looks at the slots for as long as the page is open and visible. */
export async function watchSlots(): Promise<never> {
  for (let rested = 0; ; ) {
    await new Promise((resolve) => setTimeout(resolve, BUSY));
    rested += BUSY;
    if (document.hidden || (state.running.value === undefined && rested < IDLE)) continue;
    rested = 0;
    await refreshSlots();
  }
}

export const saveSlot = (slot: number, name: string): Promise<void> =>
  act(`Slot ${slot} could not be saved.`, async () => {
    const saved = await need().client.slots.save(slot, name);
    const names = new Set([name, ...(loadChoices().saved ?? [])]);
    keepChoices({ saved: [...names].slice(0, 20) });
    return `Slot ${slot} is saved as ${name}: ${count(saved.n_saved)} tokens, ${bytes(saved.n_written)}, ${duration(saved.timings.save_ms)}.`;
  });

export const restoreSlot = (slot: number, name: string): Promise<void> =>
  act(`${name} could not be restored.`, async () => {
    const restored = await need().client.slots.restore(slot, name);
    return `Slot ${slot} holds ${count(restored.n_restored)} tokens from ${name}, restored in ${duration(restored.timings.restore_ms)}.`;
  });

export const eraseSlot = (slot: number): Promise<void> =>
  act(`Slot ${slot} could not be erased.`, async () => {
    await need().client.slots.erase(slot);
    return `Slot ${slot} is empty.`;
  });

export const exportSlot = (slot: number): Promise<void> =>
  act(`Slot ${slot} could not be exported.`, async () => {
    const { client, model } = need();
    const image = await client.slots.export(slot);
    const name = `${model}-slot-${slot}.bin`;
    download(image, name);
    return `Slot ${slot} is exported as ${name}, ${bytes(image.size)}.`;
  });

export const importSlot = (slot: number, image: File): Promise<void> =>
  act(`${image.name} could not be imported.`, async () => {
    const restored = await need().client.slots.import(slot, image);
    return `Slot ${slot} holds ${count(restored.n_restored)} tokens from ${image.name}.`;
  });

async function act(failed: string, action: () => Promise<string>): Promise<void> {
  try {
    const done = await action();
    state.notice.value = { kind: "note", title: done, text: "" };
    state.said.value = done;
  } catch (error) {
    const { title, advice, detail } = explain(error, "slot");
    state.notice.value = { kind: "error", title: failed, text: `${title} ${advice}`, detail };
  }
  await Promise.all([refreshSlots(), refreshStorage()]);
}

function need(): NonNullable<ReturnType<typeof host>> {
  const current = host();
  if (current === undefined) throw new Error("no model runs");
  return current;
}

function download(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  // The browser has taken its own hold of the blob by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
