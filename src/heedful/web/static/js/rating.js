// Step one of a ranking: each answer alone, one form for all, filled with what was said of the answer in focus.

const CONSTRAINT = "satisfies_constraint"; // the one flag with three states

/** What was said, without what was not, and without flags that the project no longer asks for. */
const said = (rating, names) => Object.fromEntries(Object.entries(rating ?? {}).filter(([name, value]) => names.has(name) && value !== null && (value !== false || name === CONSTRAINT)));

export class Rating {
  constructor(task, ratings, changed) {
    this.task = task;
    this.form = task.querySelector(".rating");
    // by attribute and selector: a flag named "dataset" or "elements" hides the form's property of that name
    this.scale = Number(this.form.getAttribute("data-scale"));
    this.ends = this.form.querySelector("[data-quality]").textContent;
    this.answers = [...task.querySelectorAll(".answer")];
    const names = new Set([...this.form.querySelectorAll("input")].map((input) => input.name));
    this.ratings = this.answers.map((_, place) => said(ratings?.[place], names));
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
      this.#choose(name, states[(states.indexOf(this.#chosen(name)) + 1) % 3]);
    } else this.#inputs(name)[0].checked = !this.#inputs(name)[0].checked;
    this.#take();
  }

  go(place) {
    this.place = Math.min(Math.max(place, 0), this.answers.length - 1);
    this.show();
    this.changed();
  }

  #inputs(name) { return this.form.querySelectorAll(`input[name="${name}"]`); }

  /** Among radio buttons; setting the value of their list would not choose an empty one. */
  #choose(name, value) {
    for (const radio of this.#inputs(name)) radio.checked = radio.value === value;
  }

  /** The value of the radio button that is chosen, or "". */
  #chosen(name) { return [...this.#inputs(name)].find((radio) => radio.checked)?.value ?? ""; }

  #take() {
    const rating = {};
    if (this.#chosen("overall")) rating.overall = Number(this.#chosen("overall"));
    if (this.#chosen(CONSTRAINT)) rating[CONSTRAINT] = this.#chosen(CONSTRAINT) === "true";
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
    for (const box of this.form.querySelectorAll("input[type=checkbox]")) box.checked = rating[box.name] === true;
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
    const flags = [...this.form.querySelectorAll("input[type=checkbox]")].filter((box) => rating[box.name] === true).map((box) => box.dataset.short);
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
