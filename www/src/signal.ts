// A value that tells when it changes.

export interface Readable<T> {
  readonly value: T;
  /** Calls `listener` now and after every change; gives back how to end that. */
  watch(listener: (value: T) => void): () => void;
}

export class Signal<T> implements Readable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    this.touch();
  }

  /** Tells of a change inside the value. */
  touch(): void {
    for (const listener of [...this.#listeners]) listener(this.#value);
  }

  watch(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#value);
    return () => this.#listeners.delete(listener);
  }
}

/** Calls `draw` now and when one of `signals` changes, once for all changes of a frame. */
export function draws(signals: Readable<unknown>[], draw: () => void): void {
  let due = false;
  const soon = (): void => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  };
  let started = false;
  for (const signal of signals) signal.watch(() => started && soon());
  started = true;
  draw();
}
