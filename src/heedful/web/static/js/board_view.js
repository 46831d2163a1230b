// The board on the page: chips in tiers, dragging, words for what happens.
import { Board } from "./board.js";

const LETTERS = "ABCDEFGHI";
const NTH = ["1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"];

const list = (letters) => letters.length < 2 ? letters.join("") : `${letters.slice(0, -1).join(", ")} and ${letters.at(-1)}`;
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

export class BoardView {
  constructor(task, tiers, changed) {
    this.task = task;
    this.changed = changed;
    this.element = task.querySelector(".board");
    this.tiers = this.element.querySelector("[data-tiers]");
    this.pool = this.element.querySelector("[data-unplaced]");
    this.none = this.element.querySelector("[name=none_acceptable]");
    this.board = new Board(Number(task.dataset.count), tiers);
    this.none.addEventListener("change", () => this.update(this.none.checked ? "None of these is acceptable. Rank them all the same." : "Acceptable again."));
    task.addEventListener("click", (event) => {
      const button = event.target.closest("[data-pick]");
      if (button && !this.dragged && task.dataset.step === "rank") this.pick(Number(button.dataset.pick));
      this.dragged = false;
    });
    task.addEventListener("pointerdown", (event) => this.#press(event));
    this.render();
  }

  pick(place) {
    const { board } = this;
    board.pick(place);
    this.update(board.held === null ? `${LETTERS[place]} dropped. ${this.where(place)}.` : `${LETTERS[place]} picked up. ${this.where(place)}.`);
    this.task.querySelector(`.answer[data-place="${place}"]`)?.scrollIntoView({ block: "nearest" });
  }

  act(name) {
    const { board } = this;
    const { held } = board;
    if (held === null) return this.say("Pick an answer up first, with its letter.");
    const done = board[name]();
    const letter = LETTERS[held];
    if (name === "drop") return this.update(`${letter} dropped. ${this.where(held)}.`);
    if (name === "cancel") return this.update(`${letter} is back where it was.`);
    if (name === "remove") return this.update(`${letter} taken off the board.`);
    if (!done) return this.say(name === "tie" ? "There is no tier above to tie with." : `${letter} is already ${name === "up" ? "the best" : "the worst"}.`);
    this.update(`${letter}: ${this.where(held)}.`);
  }

  /** In words, where an answer stands. */
  where(place) {
    const { board } = this;
    const tier = board.tierOf(place);
    if (tier < 0) return "Not placed";
    const mates = board.tiers[tier].filter((other) => other !== place).map((other) => LETTERS[other]).sort();
    const at = board.tiers.length === 1 ? "1st" : `${NTH[tier]} of ${board.tiers.length}`;
    if (!mates.length) return at;
    return `${at}, tied with ${mates.length > 2 ? `${mates.length} others` : list(mates)}`;
  }

  missing() {
    const letters = this.board.unplaced.map((place) => LETTERS[place]);
    return letters.length ? `To submit, place ${list(letters)}.` : "";
  }

  update(words) {
    this.say(words);
    this.render();
    this.changed();
  }

  say(words) { this.element.querySelector("[data-said]").textContent = words; }

  render() {
    const { board } = this;
    const focused = document.activeElement?.dataset?.pick;
    const inBoard = this.element.contains(document.activeElement);
    this.tiers.replaceChildren(...board.tiers.map((tier, index) => {
      const row = make("li", "tier");
      row.dataset.tier = index;
      row.append(make("span", "nth", String(index + 1)));
      const chips = make("span", "chips");
      chips.append(...tier.map((place) => this.#chip(place)));
      row.append(chips);
      if (tier.length > 1) row.append(make("span", "tie", "tie"));
      return row;
    }));
    const { unplaced } = board;
    this.pool.replaceChildren(...(unplaced.length ? unplaced.map((place) => this.#chip(place)) : [make("p", "quiet", "All placed")]));
    if (inBoard && focused !== undefined) this.element.querySelector(`[data-pick="${focused}"]`)?.focus();
    for (const answer of this.task.querySelectorAll(".answer")) {
      const place = Number(answer.dataset.place);
      answer.classList.toggle("held", board.held === place);
      answer.querySelector(".standing").textContent = board.tierOf(place) < 0 ? "" : this.where(place);
    }
    for (const button of this.element.querySelectorAll(".moves button")) button.setAttribute("aria-disabled", String(board.held === null));
  }

  #chip(place) {
    const chip = make("button", "chip");
    chip.type = "button";
    chip.dataset.pick = place;
    chip.append(make("span", "", LETTERS[place]));
    chip.setAttribute("aria-label", `Answer ${LETTERS[place]}, ${this.where(place)}`);
    chip.setAttribute("aria-pressed", String(this.board.held === place));
    return chip;
  }

  // Dragging: a chip, or the letter of an answer, onto a tier (a tie) or between two (a tier of its own).
  #press(event) {
    const handle = event.target.closest("[data-pick]");
    if (!handle || event.button !== 0 || this.task.dataset.step !== "rank") return;
    this.dragged = false;
    const start = { x: event.clientX, y: event.clientY };
    const place = Number(handle.dataset.pick);
    const stop = new AbortController();
    const { signal } = stop;
    let ghost = null;
    const end = (dropped) => {
      stop.abort();
      this.element.removeAttribute("data-dragging");
      const target = this.#mark(null);
      if (!ghost) return;
      ghost.remove();
      this.dragged = true;
      setTimeout(() => { this.dragged = false; });
      if (dropped && target) this.#put(place, target);
    };
    document.addEventListener("pointermove", (move) => {
      if (!ghost) {
        if (Math.hypot(move.clientX - start.x, move.clientY - start.y) < 6) return;
        ghost = make("div", "chip ghost", LETTERS[place]);
        this.task.append(ghost);
        this.element.dataset.dragging = "";
      }
      move.preventDefault();
      ghost.style.transform = `translate(${move.clientX - 18}px, ${move.clientY - 18}px)`;
      this.#mark(this.#target(move.clientX, move.clientY));
    }, { signal, passive: false });
    document.addEventListener("pointerup", () => end(true), { signal });
    document.addEventListener("pointercancel", () => end(false), { signal });
    document.addEventListener("keydown", (key) => { if (key.key === "Escape") end(false); }, { signal });
  }

  #target(x, y) {
    const box = this.element.getBoundingClientRect();
    if (x < box.left - 24 || x > box.right + 24) return null;
    const pool = this.pool.parentElement.getBoundingClientRect();
    if (y >= pool.top && y <= pool.bottom) return { off: true };
    const rows = [...this.tiers.children];
    for (const [index, row] of rows.entries()) {
      const { top, bottom, height } = row.getBoundingClientRect();
      if (y < top + height * 0.25) return { before: index };
      if (y <= bottom - height * 0.25) return { tier: index };
    }
    return y < pool.top ? { before: rows.length } : null;
  }

  #mark(target) {
    const { aim } = this;
    this.aim = target;
    const rows = [...this.tiers.children];
    rows.forEach((row, index) => {
      row.classList.toggle("into", target?.tier === index);
      row.classList.toggle("above", target?.before === index);
      row.classList.toggle("below", target?.before === rows.length && index === rows.length - 1);
    });
    this.tiers.classList.toggle("first", target?.before === 0 && rows.length === 0);
    return aim;
  }

  #put(place, { tier, before, off }) {
    const { board } = this;
    if (board.held !== place) board.pick(place);
    if (off) board.remove();
    else if (tier === undefined) board.between(place, before);
    else board.onto(place, tier);
    board.drop();
    this.update(`${LETTERS[place]}: ${this.where(place)}.`);
  }
}
