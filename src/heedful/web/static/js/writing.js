// Writing: a demonstration (the ideal answer to a prompt) or a prompt of one's own.
import { Preview } from "./preview.js";

const LONG_PASTE = 200; // characters at once

export const countWords = (text) => text.match(/\S+/g)?.length ?? 0;

export class Writing {
  constructor(task, draft, { changed, submit }) {
    this.task = task;
    this.form = task.querySelector(".writing");
    this.demonstrates = task.dataset.kind === "demonstration";
    this.main = this.form.elements[this.demonstrates ? "completion" : "prompt"];
    this.pairs = this.form.querySelector("[data-pairs]");
    this.pasted = draft?.pasted ?? 0;
    const preview = this.form.querySelector("[data-preview-of]");
    this.preview = preview && new Preview(preview);
    this.main.value = draft?.[this.main.name] ?? "";
    if (this.form.elements.use_case && draft?.use_case) this.form.elements.use_case.value = draft.use_case;
    if (this.pairs) {
      (draft?.shots?.length ? draft.shots : [{}, {}]).forEach((shot) => this.#addPair(shot));
      this.form.elements.last_query.value = draft?.query ?? "";
    }
    const update = () => { this.#show(); changed(); };
    this.submit = submit;
    this.form.addEventListener("input", update);
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.form.addEventListener("click", (event) => {
      const remove = event.target.closest("[data-remove]");
      if (!remove) return;
      remove.closest(".pair").remove();
      update();
    });
    this.form.addEventListener("paste", (event) => {
      const length = event.clipboardData?.getData("text").length ?? 0;
      if (length < LONG_PASTE) return;
      this.pasted += length;
      update();
    });
    this.changed = update;
    this.#show();
  }

  focus() { this.main.focus({ preventScroll: true }); }

  get shots() {
    return [...this.pairs.children].map((pair) => ({ query: pair.querySelector("[name=query]").value, response: pair.querySelector("[name=response]").value }));
  }

  judgement() {
    if (this.demonstrates) return { completion: this.main.value, pasted: this.pasted };
    const prompt = { prompt: this.main.value, use_case: this.form.elements.use_case.value || null };
    return this.pairs ? { ...prompt, shots: this.shots, query: this.form.elements.last_query.value } : prompt;
  }

  draft() { return { ...this.judgement(), pasted: this.pasted }; }

  missing() {
    if (!this.main.value.trim()) return `To submit, write ${this.demonstrates ? "an answer" : this.pairs ? "an instruction" : "a prompt"}.`;
    if (!this.pairs) return "";
    const whole = this.shots.filter((shot) => shot.query.trim() && shot.response.trim()).length;
    if (whole < 2) return "To submit, fill in two examples or more.";
    if (whole < this.shots.length) return "An example is incomplete. Fill it in or remove it.";
    return this.form.elements.last_query.value.trim() ? "" : "To submit, write the query to answer.";
  }

  #addPair(pair = {}) {
    const item = this.form.querySelector("[data-pair]").content.cloneNode(true);
    item.querySelector("[name=query]").value = pair.query ?? "";
    item.querySelector("[name=response]").value = pair.response ?? "";
    this.pairs.append(item);
  }

  #show() {
    const length = countWords(this.main.value);
    this.form.querySelector("[data-length]").textContent = `${length} ${length === 1 ? "word" : "words"}`;
    this.form.querySelector("[data-pasted]").textContent = this.pasted ? `${this.pasted.toLocaleString("en")} characters were pasted. This is noted with the answer.` : "";
    this.form.querySelector("[data-missing]").textContent = this.missing();
    this.form.querySelector('[data-do="submit"]').setAttribute("aria-disabled", String(Boolean(this.missing())));
    this.pairs?.querySelectorAll(".pair").forEach((pair, place) => {
      pair.querySelector("[data-number]").textContent = place + 1;
      pair.querySelector("[data-remove]").hidden = this.pairs.children.length < 3;
      pair.querySelector("[data-remove]").setAttribute("aria-label", `Remove example ${place + 1}`);
    });
    if (this.preview && !this.preview.element.hidden) this.preview.show(this.main.value);
  }

  do(name) {
    if (name === "add-pair") {
      this.#addPair();
      this.changed();
      this.pairs.lastElementChild.querySelector("textarea").focus();
    } else if (name === "preview") {
      const shown = this.preview.element;
      shown.hidden = !shown.hidden;
      this.form.querySelector('[data-do="preview"]').setAttribute("aria-pressed", String(!shown.hidden));
      this.#show();
    } else return false;
    return true;
  }

  bindings() {
    const leave = { keys: ["Escape"], what: "leave the text, so that keys work", typing: true, run: () => document.activeElement.blur() };
    return [["Writing", [
      { keys: ["Ctrl+Enter"], what: "submit", typing: true, run: () => this.submit() },
      leave,
      { keys: ["w"], what: "back to writing", run: () => this.main.focus() },
      ...(this.pairs ? [{ keys: ["Alt+n"], what: "another example", typing: true, run: () => this.do("add-pair") }] : []),
      ...(this.preview ? [{ keys: ["Alt+p"], what: "show or hide the preview", typing: true, run: () => this.do("preview") }] : []),
    ]]];
  }
}
