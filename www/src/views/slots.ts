// The slots: each a bar of its context, with where its tokens came from, why it was taken, and what the cache saved.
import { eraseSlot, exportSlot, importSlot, restoreSlot, saveSlot } from "../actions/slots";
import { host, state } from "../app";
import { byId, fill, h, type Child } from "../dom";
import { count, duration } from "../format";
import { loadChoices } from "../remember";
import { draws } from "../signal";
import type { SlotView } from "../slotview";
import { swatch, tokenBar } from "./bar";
import { ask } from "./dialog";

export function slots(): void {
  const list = h("ul", { class: "slot-list" });
  const file = h("input", { type: "file", class: "unseen", tabindex: -1, "aria-hidden": "true" });
  fill(byId("slots"), h("h2", { id: "slots-title" }, "Slots"), legend(), list, file);
  const importInto = (slot: number): void => {
    file.onchange = () => {
      const image = file.files?.[0];
      file.value = "";
      if (image !== undefined) void importSlot(slot, image);
    };
    file.click();
  };
  draws([state.slots, state.phase], () => {
    const { value: views } = state.slots;
    fill(list, views.length === 0 ? h("li", { class: "none" }, nothing()) : views.map((view) => card(view, importInto)));
  });
}

function nothing(): string {
  const ready = host();
  if (ready === undefined) return "Slots appear when a model runs.";
  return ready.listsSlots ? "Looking…" : "This server does not show its slots. Start it with --slots.";
}

function legend(): HTMLElement {
  return h(
    "p",
    { class: "legend" },
    h("span", {}, swatch("cached"), "from the cache"),
    h("span", {}, swatch("processed"), "newly processed"),
    h("span", {}, swatch("generated"), "generated"),
  );
}

function card(view: SlotView, importInto: (slot: number) => void): HTMLElement {
  const { id, context, busy, tokens, held, cached, processed, generated } = view;
  const empty = tokens === 0;
  const action = (label: string, off: boolean, run: () => void): HTMLElement =>
    h(
      "button",
      { type: "button", class: "quiet", "data-key": `${label}-${id}`, disabled: off, "aria-label": `${label} slot ${id}`, click: run },
      label,
    );
  return h(
    "li",
    { class: busy ? "slot busy" : "slot" },
    h(
      "div",
      { class: "slot-head" },
      h("h3", {}, `Slot ${id}`),
      h("span", { class: "slot-state" }, busy ? "working" : empty ? "empty" : "idle"),
      h("span", { class: "slot-fill" }, `${count(tokens)} / ${count(context)}`),
    ),
    tokenBar({ held, cached, processed, generated }, context, `Slot ${id}, ${count(tokens)} of ${count(context)} tokens`),
    !empty && facts(view),
    h(
      "div",
      { class: "slot-actions", role: "group", "aria-label": `Slot ${id}` },
      action("Save", empty || busy, () => void askSave(id)),
      action("Restore", busy, () => void askRestore(id)),
      action("Export", empty || busy, () => void exportSlot(id)),
      action("Import", busy, () => importInto(id)),
      action("Erase", empty || busy, () => void eraseSlot(id)),
    ),
  );
}

function facts({ held, cached, processed, generated, tiers, reason, firstToken, firstTokenUncached }: SlotView): HTMLElement {
  // A slot that was restored and not used since has nothing else.
  const used = cached + processed + generated > 0;
  const counts: Child[] = [
    held > 0 && h("span", {}, swatch("held"), `${count(held)} held from before`),
    used && h("span", {}, swatch("cached"), count(cached)),
    used && h("span", {}, swatch("processed"), count(processed)),
    used && h("span", {}, swatch("generated"), count(generated)),
  ];
  const rows: Child[] = [row("Tokens", h("span", { class: "counts" }, counts))];
  // A slot that had it all itself is the usual case, and says nothing new.
  if (tiers !== undefined && tiers.ram + tiers.disk > 0) rows.push(row("Cached in", whence(tiers)));
  if (reason !== undefined) rows.push(row("Chosen because", because(reason)));
  if (firstToken !== undefined) rows.push(row("First word", duration(firstToken)));
  if (firstToken !== undefined && firstTokenUncached !== undefined) {
    const times = firstTokenUncached / firstToken;
    rows.push(
      row("Without cache", `about ${duration(firstTokenUncached)}`, times >= 1.5 && h("b", {}, ` ${times < 10 ? times.toFixed(1) : count(times)}× sooner`)),
    );
  }
  return h("dl", { class: "facts" }, rows);
}

/** Where the cached tokens lay before. */
function whence({ slot, ram, disk }: NonNullable<SlotView["tiers"]>): string {
  const places: [number, string][] = [
    [slot, "the slot"],
    [ram, "memory"],
    [disk, "storage"],
  ];
  return places
    .filter(([tokens]) => tokens > 0)
    .map(([tokens, place]) => `${place} ${count(tokens)}`)
    .join(", ");
}

/** The engine's reasons as the end of a sentence; one that is new here stays as it is. */
function because(reason: string): string {
  const share = /^similarity ([\d.]+)/.exec(reason)?.[1];
  if (share !== undefined) return `it held ${Math.round(Number(share) * 100)} % of the prompt`;
  return REASONS[reason] ?? reason;
}

const REASONS: Record<string, string> = {
  pinned: "the message asked for it",
  "least recently used": "it was unused for longest",
  "only free": "no other was free",
};

const row = (name: string, ...value: Child[]): HTMLElement => h("div", {}, h("dt", {}, name), h("dd", {}, value));

async function askSave(slot: number): Promise<void> {
  const name = await ask({
    title: `Save slot ${slot}`,
    text: "Its tokens and their state are kept under this name.",
    label: "Name",
    value: `slot-${slot}`,
    button: "Save",
  });
  if (name !== undefined) await saveSlot(slot, name);
}

async function askRestore(slot: number): Promise<void> {
  const names = known();
  const name = await ask({
    title: `Restore into slot ${slot}`,
    text: "What the slot holds now is replaced.",
    label: "Name",
    value: names[0] ?? "",
    options: names,
    button: "Restore",
  });
  if (name !== undefined) await restoreSlot(slot, name);
}

/** Names that can be restored: the engine's own list, or those that were saved from this page. */
function known(): string[] {
  if (host()?.place === "server") return loadChoices().saved ?? [];
  return state.storage.value.images.filter(({ automatic }) => !automatic).map(({ name }) => name);
}
