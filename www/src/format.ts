// Numbers as people read them.

/** Bytes in decimal units. */
export function bytes(count: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let value = Math.max(0, count);
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** A whole number with thin spaces between thousands. */
export function count(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Milliseconds as a short duration. */
export function duration(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Tokens a second. */
export function rate(value: number): string {
  return `${value < 100 ? value.toFixed(1) : count(value)} tokens/s`;
}

/** `1 token`, `2 tokens`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** What a model calls itself in a conversation: its family, `SmolLM2` of `SmolLM2-135M-Instruct.Q4_1`. */
export function shortName(model: string): string {
  return /^[^-_.\s]{3,}/.exec(model)?.[0] ?? model;
}

/** The last part of a path or URL, without `.gguf`. */
export function modelTitle(name: string): string {
  const last = name.split(/[\\/]/).pop() ?? name;
  return last.replace(/\.gguf$/i, "") || name;
}
