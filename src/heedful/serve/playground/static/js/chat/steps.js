// What the page shows of a step of a conversation: a message, an answer, or two answers side by side.
// Text of people and models becomes text nodes here. HTML comes from the server alone, which makes it with an allow-list.

export const icon = (name) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
};

/** An element with attributes (`text`: its text) and children. */
export function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter(Boolean));
  return element;
}

export const act = (name, label, does, more = {}) => make("button", { type: "button", class: "act", "data-act": does, "aria-label": label, title: label, ...more }, icon(name));

export const LETTERS = ["A", "B"];
const VERDICTS = [["left", "A is better", "1"], ["tie", "Tie", "2"], ["bad", "Both are bad", "3"], ["right", "B is better", "4"]];
const OUTCOMES = { left: "You chose A.", right: "You chose B.", tie: "You called it a tie.", bad: "You found both bad." };
const NOTES = {
  stopped: "You stopped this answer.",
  interrupted: "The server ended before this answer was complete. You can ask again.",
  failed: "This answer failed.",
};

/** The words of a turn. While they are written they are plain text, and grow. */
class Words {
  constructor() { this.element = make("div", { class: "words" }); }

  show(turn) {
    if (turn.html !== null && turn.state !== "writing") {
      if (this.html === turn.html) return;
      this.html = turn.html;
      this.text = null;
      this.element.className = turn.rich ? "prose rich" : "words";
      this.element.dir = turn.rich ? "auto" : "";
      this.element.innerHTML = turn.html; // from our own server, with the tags of its allow-list only
      for (const block of this.element.querySelectorAll("pre, table, p:has(> math[display=block])")) block.tabIndex = 0; // they scroll sideways
      return;
    }
    if (!this.text) {
      this.html = null;
      this.element.className = "words";
      this.element.replaceChildren(this.text = document.createTextNode(""));
    }
    if (turn.text.startsWith(this.text.data)) this.text.appendData(turn.text.slice(this.text.data.length));
    else this.text.data = turn.text;
  }
}

/** A step on the page. `update` shows what is known now, and keeps elements that have not changed. */
export class StepView {
  constructor(step) {
    this.role = step[0].role;
    this.words = step.map(() => new Words());
    this.element = make("li", { class: `turn ${step.length === 2 ? "pair" : this.role === "user" ? "mine" : "answer"}`, "data-turn": step[0].id });
    if (step.length === 2) this.#buildPair(step);
    else this.#build(step[0]);
  }

  #build(turn) {
    this.who = make("h2", { class: this.role === "user" ? "unseen" : "who", text: this.role === "user" ? "You" : "" });
    this.note = make("p", { class: "note", hidden: true });
    this.acts = make("div", { class: "acts" });
    this.body = make("div", { class: "body", "data-body": true }, this.words[0].element);
    this.element.append(this.who, this.body, this.note, this.acts);
    this.dots = make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i"));
    if (turn.role === "assistant") this.body.append(this.dots);
  }

  #buildPair(step) {
    this.sides = step.map((turn, place) => {
      const parts = {
        who: make("h2", { class: "who" }), note: make("p", { class: "note", hidden: true }), acts: make("div", { class: "acts" }),
        dots: make("span", { class: "dots", "aria-hidden": "true" }, make("i"), make("i"), make("i")),
      };
      parts.element = make("section", { class: "side", "data-turn": turn.id, "aria-label": `Answer ${LETTERS[place]}` },
        parts.who, make("div", { class: "body" }, this.words[place].element, parts.dots), parts.note, parts.acts);
      return parts;
    });
    this.verdict = make("div", { class: "verdicts", role: "group", "aria-label": "Which answer is better?" },
      ...VERDICTS.map(([name, text, key]) => make("button", { type: "button", class: "button", "data-act": "choose", "data-verdict": name }, make("span", { text }), make("kbd", { text: key }))));
    this.outcome = make("p", { class: "outcome", hidden: true });
    this.acts = make("div", { class: "acts" });
    this.element.append(make("div", { class: "both" }, ...this.sides.map((side) => side.element)), this.verdict, this.outcome, this.acts);
  }

  /** `at` and `of`: its place among its alternatives. `stores`: whether reactions are possible. `busy`: an answer is written. */
  update(step, context) {
    step.forEach((turn, place) => this.words[place].show(turn));
    if (step.length === 2) this.#updatePair(step, context);
    else this.#updateOne(step[0], context);
  }

  #updateOne(turn, context) {
    const writing = turn.state === "writing";
    this.element.toggleAttribute("data-writing", writing);
    this.body.setAttribute("aria-busy", String(writing));
    this.element.classList.toggle("last", context.last);
    if (turn.role === "assistant") this.who.textContent = turn.model ?? context.model;
    this.dots.hidden = !writing || turn.text !== "";
    said(this.note, turn);
    const state = JSON.stringify([writing, turn.thumb?.up, turn.edit !== null, context.at, context.of, context.busy, context.stores]);
    if (state === this.state) return;
    this.state = state;
    const focused = this.acts.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    this.acts.replaceChildren(...(turn.role === "user" ? mine(turn, context) : writing ? [branches(context)] : answered(turn, context)).filter(Boolean));
    if (focused) this.acts.querySelector(`[data-act="${focused}"]`)?.focus();
  }

  #updatePair(step, context) {
    const chosen = step[0].verdict;
    const writing = step.some((turn) => turn.state === "writing");
    const whole = step.every((turn) => turn.state === "done");
    this.element.toggleAttribute("data-chosen", Boolean(chosen));
    step.forEach((turn, place) => {
      const side = this.sides[place];
      side.who.textContent = chosen ? `${LETTERS[place]}: ${turn.model}` : `Answer ${LETTERS[place]}`;
      side.element.toggleAttribute("data-writing", turn.state === "writing");
      side.element.classList.toggle("better", chosen?.verdict === ["left", "right"][place]);
      side.dots.hidden = turn.state !== "writing" || turn.text !== "";
      said(side.note, turn);
      const state = JSON.stringify([turn.state, turn.thumb?.up, turn.edit !== null, Boolean(chosen), context.stores]);
      if (side.state === state) return;
      side.state = state;
      const focused = side.acts.contains(document.activeElement) ? document.activeElement.dataset.act : null;
      side.acts.replaceChildren(...(turn.state === "writing" ? [] : [copy(), ...(chosen ? reactions(turn, context) : [])]));
      if (focused) side.acts.querySelector(`[data-act="${focused}"]`)?.focus();
    });
    this.verdict.hidden = Boolean(chosen) || !whole;
    this.outcome.hidden = !chosen;
    if (chosen) this.outcome.textContent = `${OUTCOMES[chosen.verdict]} ${context.stores ? "" : "It is not stored. "}${chosen.blind === false ? "An answer named a model, so your choice is marked as not blind." : ""}`.trim();
    const state = JSON.stringify([writing, Boolean(chosen), context.at, context.of, context.busy]);
    if (state === this.state) return;
    this.state = state;
    this.acts.replaceChildren(...[branches(context), !writing && act("again", "Answer again", "again", { disabled: context.busy })].filter(Boolean));
  }
}

function said(note, turn) {
  const words = turn.lost ? "The connection is lost. The server goes on writing." : turn.note ?? NOTES[turn.state] ?? "";
  if (note.textContent !== words) note.textContent = words;
  note.hidden = !words;
}

const copy = () => act("copy", "Copy", "copy");

const branches = ({ at, of, busy }) => of > 1 && make("span", { class: "branches", role: "group", "aria-label": "Branches" },
  act("left", "Earlier version", "earlier", { disabled: at === 0 || busy }), make("span", { class: "number", text: `${at + 1}/${of}` }), act("right", "Later version", "later", { disabled: at === of - 1 || busy }));

const mine = (turn, context) => [branches(context), copy(), act("edit", "Edit and send again", "edit", { disabled: context.busy })];

const reactions = (turn, { stores }) => !stores ? [] : [
  act("good", "Good answer", "up", { "aria-pressed": String(turn.thumb?.up === true) }),
  act("bad", "Bad answer", "down", { "aria-pressed": String(turn.thumb?.up === false) }),
  act("edit", turn.edit === null ? "Improve this answer" : "Change your improvement", "improve", { "aria-pressed": String(turn.edit !== null) }),
];

const answered = (turn, context) => [branches(context), copy(), ...(turn.text ? reactions(turn, context) : []), act("again", "Answer again", "again", { disabled: context.busy })];
