// The turns of a conversation as a tree. Two answers with the same pair are one step of a branch.

export class Tree {
  constructor(turns = []) {
    this.turns = new Map();
    turns.forEach((turn) => this.put(turn));
  }

  put(turn) {
    const known = this.turns.get(turn.id);
    if (known) return Object.assign(known, turn);
    this.turns.set(turn.id, turn);
    return turn;
  }

  get(id) { return this.turns.get(id); }

  /** The steps after a turn (null: the beginning), the oldest first: each a list of one turn, or of the two of a pair. */
  after(parent) {
    const steps = new Map();
    for (const turn of [...this.turns.values()].filter((one) => one.parent === parent).sort((one, other) => order(one) - order(other))) {
      const key = turn.pair ?? turn.id;
      steps.set(key, [...(steps.get(key) ?? []), turn]);
    }
    return [...steps.values()].map((step) => step.sort((one, other) => (one.place ?? 0) - (other.place ?? 0)));
  }

  /** The steps of the branch that ends with a turn. */
  branch(tip) {
    const found = [];
    for (let turn = this.get(tip); turn; turn = this.get(turn.parent)) found.push(this.step(turn));
    return found.reverse();
  }

  /** The step of a turn. */
  step(turn) { return this.after(turn.parent).find((step) => step.includes(turn)); }

  /** Where a step is among its alternatives: {steps, at}. */
  among(step) {
    const steps = this.after(step[0].parent);
    return { steps, at: steps.findIndex((one) => one[0] === step[0]) };
  }

  /** The last turn below a step, along the newest branches. */
  tip(step) {
    const { verdict } = step[0];
    const turn = step.length === 2 && verdict?.verdict === "right" ? step[1] : step[0];
    const next = step.flatMap((one) => this.after(one.id)).sort((one, other) => order(one[0]) - order(other[0])).at(-1);
    return next ? this.tip(next) : turn.id;
  }
}

// Turns that are not stored count down from -1.
const order = (turn) => Math.abs(turn.id);
