// Step one of a ranking: each answer alone, one form for all, filled with what was said of the answer in focus.

const CONSTRAINT = "satisfies_constraint"; // the one flag with three states

/** What was said, without what was not. */
const said = (rating) => Object.fromEntries(Object.entries(rating ?? {}).filter(([name, value]) => value !== null && (value !== false || name === CONSTRAINT)));

export class Rating {
  constructor(task, ratings, changed) {
    this.task = task;
    this.form = task.querySelector(".rating");
    this.scale = Number(this.form.dataset.scale);
    this.ends = this.form.querySelector("[data-quality]").textContent;
    this.answers = [...task.querySelectorAll(".answer")];
    this.ratings = this.answers.map((_, place) => said(ratings?.[place]));
    this.changed = changed;
    this.place = Math.max(0, this.ratings.findIndex((rating) => !rating.overall));
    this.form.addEventListener("change", () => this.#take());
    this.form.addEventListener("click", (event) => {
      const button = event.target.closest("[data-go]");
      if (button) this.go(Number(button.dataset.go));
    });
    this.show();
  }

  get complete() { return this.ratings.every((rating) => rating.overall); }

  /** What is still to be rated, as places. */
  get open() { return this.ratings.flatMap((rating, place) => (rating.overall ? [] : [place])); }

  set(name, value) {
    if (name === "overall") this.#choose(name, value);
    else if (name === CONSTRAINT) {
      const states = ["", "true", "false"];
      this.#choose(name, states[(states.indexOf(this.form.elements[name].value) + 1) % 3]);
    } else this.form.elements[name].checked = !this.form.elements[name].checked;
    this.#take();
  }

  go(place) {
    this.place = Math.min(Math.max(place, 0), this.answers.length - 1);
    this.show();
    this.changed();
  }

  /** Among radio buttons; setting the value of their list would not choose an empty one. */
  #choose(name, value) {
    for (const radio of this.form.elements[name] ?? []) radio.checked = radio.value === value;
  }

  #take() {
    const { elements } = this.form;
    const rating = {};
    if (elements.overall.value) rating.overall = Number(elements.overall.value);
    if (elements[CONSTRAINT]?.value) rating[CONSTRAINT] = elements[CONSTRAINT].value === "true";
    for (const box of this.form.querySelectorAll("input[type=checkbox]")) if (box.checked) rating[box.name] = true;
    this.ratings[this.place] = rating;
    this.show();
    this.changed();
  }

  /** Fills the form, shows the answer in focus, and writes below every answer what was said of it. */
  show() {
    const rating = this.ratings[this.place];
    this.#choose("overall", String(rating.overall));
    this.#choose(CONSTRAINT, String(rating[CONSTRAINT] ?? ""));
    for (const box of this.form.querySelectorAll("input[type=checkbox]")) box.checked = Boolean(rating[box.name]);
    const chosen = this.form.querySelector("[name=overall]:checked");
    this.form.querySelector("[data-quality]").textContent = chosen ? `${chosen.value} ${chosen.dataset.words}` : this.ends;
    const last = this.place === this.answers.length - 1;
    const rest = this.open.filter((place) => place !== this.place);
    this.form.querySelector("[data-next-words]").textContent = rest.length === 0 && last ? "Rank them all" : last ? "Unrated answer" : "Next answer";
    this.form.querySelector(".missing").textContent = "";
    this.answers.forEach((answer, place) => {
      answer.classList.toggle("focus", place === this.place);
      answer.querySelector(".rated").textContent = this.words(place);
    });
    for (const button of this.form.querySelectorAll("[data-go]")) {
      const place = Number(button.dataset.go);
      button.toggleAttribute("data-rated", Boolean(this.ratings[place].overall));
      if (place === this.place) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    }
  }

  words(place) {
    const rating = this.ratings[place];
    if (!rating.overall) return "";
    const flags = [...this.form.querySelectorAll("input[type=checkbox]")].filter((box) => rating[box.name]).map((box) => box.dataset.short);
    if (rating[CONSTRAINT] !== undefined) flags.unshift(rating[CONSTRAINT] ? "constraint kept" : "constraint broken");
    return [`${rating.overall} of ${this.scale}`, ...flags].join(" · ");
  }

  ask() { this.form.querySelector(".missing").textContent = `Rate the overall quality first, with a key from 1 to ${this.scale}.`; }

  /** For the judgement: what was not ticked is false, and a constraint that is not there is left out. */
  judged() {
    const names = [...this.form.querySelectorAll("input[type=checkbox]")].map((box) => box.name);
    return this.ratings.map((rating) => ({ ...Object.fromEntries(names.map((name) => [name, false])), ...rating }));
  }
}
