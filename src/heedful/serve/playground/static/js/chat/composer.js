// The box in which messages are written, with the choices below it.

const KEPT = "heedful:chat:choices"; // model and side by side, of the next new chat

const kept = () => {
  try { return JSON.parse(localStorage.getItem(KEPT)) ?? {}; } catch { return {}; }
};

export class Composer {
  constructor(form, { models, send, changed }) {
    Object.assign(this, { form, models, changed });
    this.text = form.querySelector("textarea");
    this.told = document.querySelector("[data-alone]");
    this.model = form.querySelector("[data-model]");
    this.compare = form.querySelector('[data-do="compare"]');
    this.sends = form.querySelector("[data-send]");
    this.stops = form.querySelector('[data-do="stop"]');
    this.model.replaceChildren(...models.map((name) => new Option(name, name)));
    this.compare.hidden = models.length < 2;
    this.model.addEventListener("change", () => { this.#keep({ model: this.model.value }); changed({ model: this.model.value }); });
    this.text.addEventListener("input", () => this.#grow());
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.text.value.trim();
      if (text && !this.busy) send(text);
    });
    this.#grow();
  }

  /** What the last new chat began with, as far as it is served. */
  choices() {
    const { model, compare } = kept();
    return { ...(this.models.includes(model) && { model }), compare: Boolean(compare) && this.models.length > 1 };
  }

  #keep(choices) {
    try { localStorage.setItem(KEPT, JSON.stringify({ ...kept(), ...choices })); } catch { /* private window */ }
  }

  toggleCompare() {
    const compare = this.compare.getAttribute("aria-pressed") !== "true";
    this.#keep({ compare });
    this.changed({ compare });
  }

  /** `alone`: what the reader is told if the next message cannot go on with the chat. */
  show({ model, compare }, busy, alone) {
    this.busy = busy;
    this.#tell(alone);
    this.model.value = model ?? this.models[0];
    this.model.disabled = compare;
    this.model.closest("label").classList.toggle("off", compare);
    this.compare.setAttribute("aria-pressed", String(compare));
    const stopping = document.activeElement === this.stops || document.activeElement === this.sends;
    this.sends.hidden = busy;
    this.stops.hidden = !busy;
    if (stopping) (busy ? this.stops : this.text).focus();
    this.#grow();
  }

  #tell(alone) {
    if (this.told.textContent !== (alone ?? "")) this.told.textContent = alone ?? "";
    this.told.hidden = !alone;
    this.text.placeholder = alone ? "Ask something new" : "Ask anything";
    this.sends.setAttribute("aria-label", alone ? "Send as a new chat" : "Send");
    if (alone) this.text.setAttribute("aria-describedby", this.told.id);
    else this.text.removeAttribute("aria-describedby");
  }

  clear() {
    this.text.value = "";
    this.#grow();
  }

  fill(text) {
    this.text.value = text;
    this.#grow();
    this.text.focus();
    this.text.setSelectionRange(text.length, text.length);
  }

  #grow() {
    this.sends.disabled = !this.text.value.trim();
    if (CSS.supports("field-sizing", "content")) return;
    this.text.rows = Math.min(12, this.text.value.split("\n").length);
  }
}
