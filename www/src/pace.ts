// How fast something moves and when it will be done, from what was seen in the last seconds.

/** How far back speeds look, milliseconds. */
const WINDOW = 4000;

export interface Pace {
  /** Per second; 0 while it is not known. */
  speed: number;
  /** Milliseconds; undefined while it is not known. */
  left: number | undefined;
}

export class PaceMeter {
  readonly #seen: { at: number; done: number }[] = [];

  /** Notes that `done` of `total` are done at the time `now`, in milliseconds. */
  note(done: number, total: number, now: number): Pace {
    const last = this.#seen.at(-1);
    // A new phase or file starts over.
    if (last !== undefined && done < last.done) this.#seen.length = 0;
    this.#seen.push({ at: now, done });
    while (this.#seen.length > 2 && now - (this.#seen[0]?.at ?? now) > WINDOW) this.#seen.shift();
    const first = this.#seen[0];
    const span = first === undefined ? 0 : now - first.at;
    if (first === undefined || span < 250) return { speed: 0, left: undefined };
    const speed = ((done - first.done) * 1000) / span;
    return { speed, left: speed > 0 && total > done ? ((total - done) / speed) * 1000 : undefined };
  }
}
