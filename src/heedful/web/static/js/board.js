// The board of a ranking as a value: tiers of answers, best first, and the one answer that is picked up.
// An answer is placed or it is not: nothing is placed until somebody places it.

export class Board {
  constructor(count, tiers = []) {
    this.count = count;
    this.tiers = tiers.map((tier) => [...tier]);
    this.held = null;
    this.recent = []; // the answers picked last, newest at the end
    this.before = null;
  }

  get unplaced() {
    const placed = new Set(this.tiers.flat());
    return Array.from({ length: this.count }, (_, place) => place).filter((place) => !placed.has(place));
  }

  get complete() { return this.unplaced.length === 0; }

  tierOf(place) { return this.tiers.findIndex((tier) => tier.includes(place)); }

  /** Picks an answer up; one that was not placed becomes the worst so far. The one already in hand is dropped. */
  pick(place) {
    if (this.held === place) return this.drop();
    this.before = this.tiers.map((tier) => [...tier]);
    this.held = place;
    this.recent = [...this.recent.filter((other) => other !== place), place].slice(-2);
    if (this.tierOf(place) < 0) this.tiers.push([place]);
  }

  drop() { this.held = null; this.before = null; }

  /** Puts things back as they were before the last picking up. */
  cancel() {
    if (this.held !== null) this.tiers = this.before;
    this.drop();
  }

  /** Takes the answer in hand off the board. */
  remove() {
    if (this.held === null) return;
    this.#lift(this.held);
    this.drop();
  }

  up() { return this.#step(-1); }

  down() { return this.#step(1); }

  /** Ties the answer in hand with the tier above; false where there is none. */
  tie() {
    const tier = this.tierOf(this.held);
    if (this.held === null || tier < 1) return false;
    this.onto(this.held, tier - 1);
    return true;
  }

  /** Into a tier. */
  onto(place, tier) {
    if (this.tiers[tier]?.includes(place)) return;
    const target = this.tiers[tier];
    this.#lift(place);
    if (target) target.splice(0, target.length, ...[...target, place].sort());
    else this.tiers.push([place]);
  }

  /** Into a tier of its own, above tier number `before`. */
  between(place, before) {
    const next = this.tiers[before];
    const alone = next?.length === 1 && next[0] === place;
    if (alone) return;
    this.#lift(place);
    const at = next ? this.tiers.indexOf(next) : this.tiers.length;
    this.tiers.splice(at, 0, [place]);
  }

  #step(by) {
    if (this.held === null) return false;
    const tier = this.tierOf(this.held);
    if (this.tiers[tier].length > 1) { // out of a tie, into a tier of its own
      this.tiers[tier] = this.tiers[tier].filter((other) => other !== this.held);
      this.tiers.splice(by < 0 ? tier : tier + 1, 0, [this.held]);
      return true;
    }
    const other = tier + by;
    if (other < 0 || other >= this.tiers.length) return false;
    [this.tiers[tier], this.tiers[other]] = [this.tiers[other], this.tiers[tier]];
    return true;
  }

  #lift(place) {
    for (const tier of this.tiers) {
      const at = tier.indexOf(place);
      if (at >= 0) tier.splice(at, 1);
    }
    this.tiers = this.tiers.filter((tier) => tier.length);
  }
}
