// `await using` where the engine has it and where only a transpiler does: both look the method up under these symbols.
/// <reference lib="esnext.disposable" preserve="true" />

/** `Symbol.asyncDispose`, or the symbol that transpiled code falls back to. */
export const asyncDispose: typeof Symbol.asyncDispose = (Symbol.asyncDispose ??
  Symbol.for("Symbol.asyncDispose")) as typeof Symbol.asyncDispose;

/** `Symbol.dispose`, or the symbol that transpiled code falls back to. */
export const dispose: typeof Symbol.dispose = (Symbol.dispose ?? Symbol.for("Symbol.dispose")) as typeof Symbol.dispose;

/** Something that was started and can be ended, by name or by leaving a `using` block. */
export class Subscription {
  readonly #end: () => void;
  #ended = false;

  constructor(end: () => void) {
    this.#end = end;
  }

  /** Ends it; further calls do nothing. */
  unsubscribe(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#end();
  }

  [dispose](): void {
    this.unsubscribe();
  }

  async [asyncDispose](): Promise<void> {
    this.unsubscribe();
  }
}
