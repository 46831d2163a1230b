// Thumbs, improvements and choices. They wait in this browser until the server has them, so a lost connection loses none.
import { dialog, open } from "../dialogs.js";
import { Outbox } from "../outbox.js";
import { root } from "../site.js";
import { make } from "./steps.js";

const WAITING = { offline: "No connection. What you said waits here until the server is back.", busy: "The server is busy. What you said waits here.",
  "signed-out": "You are signed out. Sign in again to send what you said.", "other-person": "Another account is signed in on this browser.", forbidden: "The server does not take this right now." };

export class Reactions {
  /** `find(turn)` is the turn of this number, `shown(turn)` shows its news, `chose(answer)` gets what the server says of a pair. */
  constructor({ reasons, find, shown, chose, say }) {
    Object.assign(this, { reasons, find, shown, say });
    this.outbox = new Outbox({
      answered: (body, { pair }) => { if (pair) chose(JSON.parse(body)); },
      refused: ({ error }) => say(error ?? "The server refused this."),
      state: (why) => { if (WAITING[why]) say(WAITING[why]); },
    });
    this.thumbs = dialog("thumb");
    this.thumbs.querySelector("form").addEventListener("submit", () => this.#reasoned());
    dialog("improve").querySelector("form").addEventListener("submit", (event) => this.#improved(event));
    this.outbox.flush();
  }

  #send(path, body, kept = {}) { this.outbox.add(`${root}${path}`, body, kept, false); }

  /** A thumb is sent at once. The dialog adds reasons to it. Pressed again it opens the dialog. */
  thumb(conversation, turn, up) {
    this.given = { conversation, turn };
    if (turn.thumb?.up !== up) {
      turn.thumb = { up, reasons: [], comment: "" };
      this.#sendThumb();
    }
    const box = this.thumbs.querySelector("[data-reasons]");
    this.thumbs.querySelector("h2").textContent = up ? "What was good?" : "What was wrong?";
    box.replaceChildren(box.querySelector("legend"), ...this.reasons[up ? "up" : "down"].map(([name, words]) => make("label", {},
      make("input", { type: "checkbox", name: "reasons", value: name, checked: turn.thumb.reasons.includes(name) }), make("span", { text: words }))));
    this.thumbs.querySelector("textarea").value = turn.thumb.comment;
    open("thumb");
  }

  #sendThumb() {
    const { conversation, turn } = this.given;
    const { thumb } = turn;
    this.#send(conversation.address(turn, "thumb"), thumb ? { thumb: thumb.up ? "up" : "down", reasons: thumb.reasons, comment: thumb.comment } : { thumb: null });
    this.shown(turn);
  }

  #reasoned() {
    const form = this.thumbs.querySelector("form");
    const { turn } = this.given;
    turn.thumb = { up: turn.thumb.up, reasons: [...form.querySelectorAll("[name=reasons]:checked")].map((one) => one.value), comment: form.elements.comment.value };
    this.#sendThumb();
    this.say("Thank you. Your thumb is saved.");
  }

  takeBack() {
    this.given.turn.thumb = null;
    this.#sendThumb();
    this.thumbs.close();
  }

  improve(conversation, turn) {
    this.given = { conversation, turn };
    dialog("improve").querySelector("textarea").value = turn.edit ?? turn.text;
    open("improve");
  }

  #improved(event) {
    const { conversation, turn } = this.given;
    const text = event.target.elements.text.value;
    if (text.trim() === turn.text.trim()) {
      event.preventDefault();
      return this.say("Change the answer first.");
    }
    turn.edit = text;
    this.#send(conversation.address(turn, "edit"), { text });
    this.shown(turn);
    this.say("Thank you. Your improvement is saved.");
  }

  choose(conversation, pair, verdict) { this.#send(conversation.pairAddress(pair), { verdict }, { pair }); }
}
