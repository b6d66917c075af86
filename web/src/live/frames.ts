/** Collects what arrives and hands it over once per animation frame. */

/** A hidden tab gets no frames; it still has to take in what arrives, at its own slow pace. */
const HIDDEN_PACE_MS = 500;

export class FrameBatch<Item> {
  #waiting: Item[] = [];
  #frame = 0;
  #timer = 0;
  readonly #flush: (items: Item[]) => void;

  constructor(flush: (items: Item[]) => void) {
    this.#flush = flush;
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  push(item: Item): void {
    this.#waiting.push(item);
    this.#schedule();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #schedule(): void {
    if (this.#waiting.length === 0 || this.#frame !== 0 || this.#timer !== 0) return;
    if (document.hidden) this.#timer = window.setTimeout(this.#run, HIDDEN_PACE_MS);
    else this.#frame = requestAnimationFrame(this.#run);
  }

  readonly #run = (): void => {
    this.#frame = 0;
    this.#timer = 0;
    const items = this.#waiting;
    this.#waiting = [];
    if (items.length > 0) this.#flush(items);
  };

  /** A frame asked for while visible is not run once the tab is hidden, and the other way round. */
  readonly #onVisibility = (): void => {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#frame = 0;
    this.#timer = 0;
    this.#schedule();
  };
}
