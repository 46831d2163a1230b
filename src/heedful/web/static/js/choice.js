// Head-to-head: which of two answers is better.
import { compare } from "./compare.js";

/** The value of the button that a draft stands for. */
const chosen = (draft) => (draft?.preferred === "tie" && draft.none_acceptable ? "bad" : draft?.preferred);

export class Choice {
  constructor(task, draft, { changed, submit }) {
    this.task = task;
    this.submit = submit;
    this.radios = [...task.querySelectorAll("[name=preferred]")];
    for (const radio of this.radios) {
      radio.checked = chosen(draft) === radio.value;
      radio.addEventListener("change", () => { this.#show(); changed(); });
    }
    this.#show();
  }

  focus() { this.task.querySelector("h1").focus({ preventScroll: true }); }

  get preferred() { return this.radios.find((radio) => radio.checked)?.value ?? null; }

  draft() { return this.judgement(); }

  judgement() { return this.preferred === "bad" ? { preferred: "tie", none_acceptable: true } : { preferred: this.preferred }; }

  missing() { return this.preferred ? "" : "To submit, say which is better, or that they are equal or both bad."; }

  set(value) {
    const radio = this.radios.find((other) => other.value === value);
    radio.checked = true;
    radio.dispatchEvent(new Event("change"));
  }

  #show() {
    const { preferred } = this;
    const words = { a: ["better", ""], b: ["", "better"], tie: ["equally good", "equally good"], bad: ["bad", "bad"] }[preferred] ?? ["", ""];
    [...this.task.querySelectorAll(".answer")].forEach((answer, place) => {
      answer.querySelector(".standing").textContent = words[place];
      answer.classList.toggle("held", words[place] === "better");
    });
    this.task.querySelector("[data-missing]").textContent = this.missing();
    this.task.querySelector('[data-do="submit"]').setAttribute("aria-disabled", String(!preferred));
  }

  compare() {
    compare([...this.task.querySelectorAll(".answer")].map((answer, place) => ["AB"[place], answer]));
  }

  do(name) {
    if (name !== "compare") return false;
    this.compare();
    return true;
  }

  bindings() {
    return [["Head-to-head", [
      { keys: ["a"], what: "A is better", run: () => this.set("a") },
      { keys: ["b"], what: "B is better", run: () => this.set("b") },
      { keys: ["="], what: "equally good", run: () => this.set("tie") },
      { keys: ["0"], what: "both are bad", run: () => this.set("bad") },
      { keys: ["/"], what: "compare the two", run: () => this.compare() },
      { keys: ["Ctrl+Enter"], what: "submit", run: () => this.submit() },
    ]]];
  }
}
