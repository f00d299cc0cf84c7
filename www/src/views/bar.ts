// The bar of tokens: cached, processed, generated, as parts of a whole.
import { h } from "../dom";
import { count } from "../format";

export interface Parts {
  held?: number;
  cached: number;
  processed: number;
  generated: number;
}

/** The kinds of tokens, in the order of a slot; colours and patterns go by these names. */
export const KINDS = {
  held: "held from before",
  cached: "from the cache",
  processed: "processed",
  generated: "generated",
} as const satisfies Record<keyof Required<Parts>, string>;

/** A bar over `whole` tokens. It says its numbers to those who cannot see it. */
export function tokenBar(parts: Parts, whole: number, label: string): HTMLElement {
  const kinds = (Object.keys(KINDS) as (keyof typeof KINDS)[]).filter((kind) => (parts[kind] ?? 0) > 0);
  const spoken = kinds.map((kind) => `${count(parts[kind] ?? 0)} ${KINDS[kind]}`).join(", ") || "empty";
  const bar = h("div", { class: "bar", role: "img", "aria-label": `${label}: ${spoken}` });
  for (const kind of kinds) {
    const part = h("span", { class: `part ${kind}` });
    part.style.flexGrow = String(parts[kind] ?? 0);
    bar.append(part);
  }
  const used = kinds.reduce((sum, kind) => sum + (parts[kind] ?? 0), 0);
  const rest = h("span", { class: "rest" });
  rest.style.flexGrow = String(Math.max(0, whole - used));
  bar.append(rest);
  return bar;
}

/** A dot in the colour of a kind. */
export const swatch = (kind: keyof typeof KINDS): HTMLElement =>
  h("span", { class: `swatch ${kind}`, "aria-hidden": "true" });
