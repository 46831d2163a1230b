// The dialog with system prompt and sampling settings.
import { dialog, open } from "../dialogs.js";

const NUMBERS = ["temperature", "top_p", "max_tokens"];

export class Settings {
  constructor({ defaults, changed }) {
    this.defaults = defaults;
    this.form = dialog("settings").querySelector("form");
    this.form.addEventListener("input", () => this.#show());
    this.form.addEventListener("submit", () => changed(this.values()));
  }

  values() {
    const { system, seed } = this.form.elements;
    const numbers = Object.fromEntries(NUMBERS.map((name) => [name, Number(this.form.elements[name].value)]));
    return { system: system.value, ...numbers, seed: seed.value === "" ? null : Number(seed.value) };
  }

  open(settings) {
    this.#fill(settings);
    open("settings");
  }

  reset() { this.#fill(this.defaults); }

  #fill(settings) {
    for (const name of ["system", ...NUMBERS, "seed"]) this.form.elements[name].value = settings[name] ?? "";
    this.#show();
  }

  #show() {
    for (const output of this.form.querySelectorAll("output")) output.textContent = Number(this.form.elements[output.dataset.of].value).toFixed(2);
  }

  /** How many settings differ from the defaults. */
  own(settings) { return ["system", ...NUMBERS, "seed"].filter((name) => settings[name] !== this.defaults[name]).length; }
}
