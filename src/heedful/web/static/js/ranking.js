// A ranking: rate each alone, then rank all.
import { BoardView } from "./board_view.js";
import { Rating } from "./rating.js";
import { compare } from "./compare.js";

const LETTERS = "ABCDEFGHI";

export class Ranking {
  constructor(task, draft, { changed, submit }) {
    this.task = task;
    this.count = Number(task.dataset.count);
    this.rates = "rate" in task.dataset;
    const update = () => { this.#missing(); changed(); };
    this.rating = this.rates ? new Rating(task, draft?.ratings, update) : null;
    this.view = new BoardView(task, draft?.ranking, update);
    this.view.none.checked = Boolean(draft?.none_acceptable);
    this.submit = submit;
    this.rating?.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.next();
    });
    this.go(this.rates && !(this.rating.complete && draft.step !== "rate") ? "rate" : "rank");
    this.#missing();
  }

  get step() { return this.task.dataset.step; }

  go(step) {
    this.task.dataset.step = step;
    for (const part of this.task.querySelectorAll("[data-in-step]")) part.hidden = part.dataset.inStep !== step;
    for (const item of this.task.querySelectorAll("[data-of-step]")) {
      if (item.dataset.ofStep === step) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    for (const handle of this.task.querySelectorAll(".answer .handle")) handle.disabled = step !== "rank";
  }

  /** Enter: the next answer that is not yet rated, and after the last the board. */
  next() {
    const { rating } = this;
    if (!rating.ratings[rating.place].overall) return rating.ask();
    if (rating.complete && rating.place === this.count - 1) this.#open();
    else rating.go(rating.place < this.count - 1 ? rating.place + 1 : rating.open[0]);
    window.scrollTo({ top: 0 });
  }

  #open() {
    this.go("rank");
    this.rating.changed();
  }

  /** Keys work at once; the heading has the focus, so that a new item is announced and Tab begins there. */
  focus() { this.task.querySelector("h1").focus({ preventScroll: true }); }

  draft() {
    return { step: this.step, ratings: this.rating?.ratings, ranking: this.view.board.tiers, none_acceptable: this.view.none.checked };
  }

  missing() {
    const open = this.rating?.open ?? [];
    if (open.length) return `First rate ${open.map((place) => LETTERS[place]).join(", ")}.`;
    return this.view.missing();
  }

  judgement() {
    this.view.board.drop();
    return {
      ranking: this.view.board.tiers,
      none_acceptable: this.view.none.checked,
      ratings: this.rating ? this.rating.judged() : null,
    };
  }

  #missing() {
    const words = this.missing();
    this.task.querySelector(".board [data-missing]").textContent = words;
    this.task.querySelector('.board [data-do="submit"]').setAttribute("aria-disabled", String(Boolean(words)));
  }

  compare() {
    const { recent } = this.view.board;
    if (recent.length < 2) return this.view.element.querySelector("[data-missing]").textContent = "To compare, pick up two answers, one after the other.";
    compare(recent.map((place) => [LETTERS[place], this.task.querySelector(`.answer[data-place="${place}"]`)]));
  }

  do(name) {
    if (name === "previous-answer") this.rating.go(this.rating.place - 1);
    else if (name === "back-to-ratings") this.go("rate");
    else if (name === "compare") this.compare();
    else if (["up", "down", "tie", "drop"].includes(name)) this.view.act(name);
    else return false;
    return true;
  }

  bindings() {
    const rating = () => this.step === "rate";
    const ranking = () => this.step === "rank";
    const holding = () => ranking() && this.view.board.held !== null;
    const flags = [...this.task.querySelectorAll(".flags input[type=checkbox][data-key]")];
    const constraint = this.task.querySelector(".flags input[type=radio][data-key]");
    const points = Array.from({ length: this.rating?.scale ?? 0 }, (_, place) => String(place + 1));
    const letters = LETTERS.slice(0, this.count).toLowerCase().split("");
    const act = (name) => () => this.view.act(name);
    return [
      ...(this.rates ? [["Rate each alone", [
        { keys: points, shown: ["1", "…", points.at(-1)], what: `overall quality: ${this.rating.ends.replace(" …", ",")}`, when: rating, always: true, run: (key) => this.rating.set("overall", key) },
        ...(constraint ? [{ keys: [constraint.dataset.key], what: "the constraint in the prompt: none, kept, broken", when: rating, always: true, run: () => this.rating.set(constraint.name) }] : []),
        ...flags.map((box) => ({ keys: [box.dataset.key], what: box.closest("label").querySelector("span").textContent.toLowerCase(), when: rating, always: true, run: () => this.rating.set(box.name) })),
        { keys: ["Enter"], what: "the next answer; after the last, rank them all", when: rating, always: true, run: () => this.next() },
        { keys: letters, shown: [letters[0].toUpperCase(), "…", letters.at(-1).toUpperCase()], what: "go to this answer", when: rating, always: true, run: (key) => this.rating.go(letters.indexOf(key)) },
        { keys: ["ArrowLeft"], what: "the answer before", when: rating, always: true, run: () => this.rating.go(this.rating.place - 1) },
        { keys: ["ArrowRight"], what: "the answer after", when: rating, always: true, run: () => this.rating.go(this.rating.place + 1) },
      ]]] : []),
      ["Rank all", [
        { keys: letters, shown: [letters[0].toUpperCase(), "…", letters.at(-1).toUpperCase()], what: "pick this answer up; the one in hand is dropped where it is", when: ranking, always: true, run: (key) => this.view.pick(letters.indexOf(key)) },
        { keys: ["ArrowUp"], what: "a tier up; out of a tie", when: holding, always: true, repeat: true, run: act("up") },
        { keys: ["ArrowDown"], what: "a tier down; out of a tie", when: holding, always: true, repeat: true, run: act("down") },
        { keys: ["="], what: "tie it with the tier above", when: ranking, always: true, run: act("tie") },
        { keys: [" "], what: "drop it", when: holding, always: true, run: act("drop") },
        { keys: ["Escape"], what: "put it back where it was", when: holding, always: true, run: act("cancel") },
        { keys: ["Backspace", "Delete"], shown: ["Backspace"], what: "take it off the board", when: holding, always: true, run: act("remove") },
        { keys: ["0"], what: "none of these is acceptable", when: ranking, always: true, run: () => this.view.none.click() },
        { keys: ["/"], what: "compare the two picked up last", when: ranking, always: true, run: () => this.compare() },
        ...(this.rates ? [{ keys: ["r"], what: "back to the ratings", when: ranking, always: true, run: () => this.go("rate") }] : []),
        { keys: ["Ctrl+Enter"], what: "submit", when: ranking, always: true, run: () => this.submit() },
      ]],
    ];
  }
}
