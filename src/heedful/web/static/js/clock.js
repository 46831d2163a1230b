// Time at work on an item: while its page is in view, and of a time in which nothing moves only the beginning.

const IDLE = 90_000; // ms

export class Clock {
  constructor() {
    for (const name of ["keydown", "pointermove", "pointerdown", "scroll", "visibilitychange"]) document.addEventListener(name, () => this.#tick(), { passive: true });
    this.start(0);
  }

  /** For another item; `seconds` were spent on it before. */
  start(seconds) {
    this.total = 1000 * seconds;
    this.#look();
  }

  get seconds() {
    this.#tick();
    return Math.round(this.total / 100) / 10;
  }

  /** What counts is whether the page was in view since the last tick: one comes just after the view has changed. */
  #tick() {
    const { at, seen } = this;
    this.#look();
    if (seen) this.total += Math.min(this.at - at, IDLE);
  }

  #look() {
    this.at = performance.now();
    this.seen = document.visibilityState === "visible";
  }
}
