// A slot as the panel draws it: where its tokens came from, why it was taken, what the cache saved.
import type { Slot } from "reprise";

export interface SlotView {
  id: number;
  /** Tokens that fit. */
  context: number;
  busy: boolean;
  /** Tokens there are; the next four add up to it. */
  tokens: number;
  /** There before, and not touched by the last request: a restored slot has only these. */
  held: number;
  /** Of the last request's prompt: found in the cache, and processed. */
  cached: number;
  processed: number;
  /** Written by the model in the last request. */
  generated: number;
  /** Where the cached ones lay, if that is told: in the slot itself, in memory beyond it, in the persistent store. */
  tiers: { slot: number; ram: number; disk: number } | undefined;
  /** Why the last request got this slot. */
  reason: string | undefined;
  /** Milliseconds to the first token: as it was, and as it would have been without the cache. */
  firstToken: number | undefined;
  firstTokenUncached: number | undefined;
}

/** Reads a slot of `GET /slots`; a server that tells less than ours gives a poorer picture, not an error. */
export function slotView(slot: Slot): SlotView {
  const placement = slot.placement ?? {};
  const number = (name: string): number | undefined => {
    const value = placement[name];
    return typeof value === "number" && Number.isFinite(value) ? value : undefined;
  };
  const tokens = slot.n_prompt_tokens ?? 0;
  const ran = slot.placement !== undefined || slot.n_prompt_tokens_processed !== undefined;
  // A generation's last token has no cell of its own yet.
  const cached = Math.min(tokens, number("cached") ?? slot.n_prompt_tokens_cache ?? 0);
  const processed = Math.min(tokens - cached, number("processed") ?? slot.n_prompt_tokens_processed ?? 0);
  const generated = ran ? Math.min(tokens - cached - processed, number("generated") ?? decoded(slot)) : 0;
  const firstToken = number("prompt_ms");
  const saved = number("saved_ms");
  const known = firstToken !== undefined && firstToken > 0;
  return {
    id: slot.id,
    context: slot.n_ctx,
    busy: slot.is_processing,
    tokens,
    held: tokens - cached - processed - generated,
    cached,
    processed,
    generated,
    tiers: tiers(placement["tiers"]),
    reason: typeof placement["reason"] === "string" ? placement["reason"] : undefined,
    firstToken: known ? firstToken : undefined,
    firstTokenUncached: known && saved !== undefined && saved > 0 ? firstToken + saved : undefined,
  };
}

function tiers(told: unknown): SlotView["tiers"] {
  if (typeof told !== "object" || told === null) return undefined;
  const { slot, ram, disk } = told as Record<string, unknown>;
  return typeof slot === "number" && typeof ram === "number" && typeof disk === "number" ? { slot, ram, disk } : undefined;
}

function decoded(slot: Slot): number {
  const next: unknown = slot["next_token"];
  const first: unknown = Array.isArray(next) ? next[0] : undefined;
  if (typeof first !== "object" || first === null || !("n_decoded" in first)) return 0;
  return typeof first.n_decoded === "number" ? first.n_decoded : 0;
}
