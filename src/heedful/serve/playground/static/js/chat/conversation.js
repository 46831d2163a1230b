// Conversations: one whose turns the server stores, and one that lives in this page alone. Both have the same methods.
// `on.changed(turn)` says that a turn has news, `on.said(words)` what to tell the reader.
import { Refusal, call, followed, posted } from "./server.js";
import { Tree } from "./tree.js";

const newKey = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");

class Conversation {
  constructor(settings, on) {
    Object.assign(this, { settings, on, tree: new Tree(), tip: null });
  }

  get steps() { return this.tree.branch(this.tip); }

  get writing() { return [...this.tree.turns.values()].filter((turn) => turn.state === "writing"); }

  get isEmpty() { return this.tree.turns.size === 0; }
}

export class Stored extends Conversation {
  static stores = true;

  constructor(settings, on, chat = null) {
    super(settings, on);
    if (chat) this.#take(chat);
  }

  #take({ ref, title, settings, tip, turns }) {
    Object.assign(this, { ref, title, settings });
    this.#put({ tip, turns });
  }

  #put({ tip, turns }) {
    turns.forEach((turn) => this.tree.put(turn));
    this.tip = tip;
    for (const turn of turns) if (turn.state === "writing") this.#follow(this.tree.get(turn.id));
  }

  async #follow(turn) {
    if (turn.followed) return;
    turn.followed = true;
    const start = [...turn.text].length; // the server counts code points
    try {
      const end = await followed(this.ref, turn.id, start, (text) => { turn.text += text; this.on.changed(turn); }, (lost) => {
        if (lost !== Boolean(turn.lost)) { turn.lost = lost; this.on.changed(turn); }
      });
      turn.lost = false;
      Object.assign(turn, end ?? { state: "interrupted" });
    } catch (error) {
      this.on.failed(error);
      turn.state = "interrupted";
    }
    turn.followed = false;
    this.on.changed(turn);
  }

  async send(parent, text) {
    if (!this.ref) this.#take(await call("POST", "/api/chats", { text, settings: this.settings }));
    else this.#put(await call("POST", `/api/chats/${this.ref}/turns`, { parent, text, key: newKey() }));
  }

  async again(parent) {
    this.#put(await call("POST", `/api/chats/${this.ref}/answers`, { parent, key: newKey() }));
  }

  async stop() {
    await Promise.all(this.writing.map((turn) => call("POST", `/api/chats/${this.ref}/turns/${turn.id}/stop`)));
  }

  async show(tip) {
    this.tip = tip;
    await call("PATCH", `/api/chats/${this.ref}`, { tip });
  }

  async set(settings) {
    this.settings = settings;
    if (this.ref) await call("PATCH", `/api/chats/${this.ref}`, { settings });
  }

  /** Where reactions are sent. */
  address(turn, what) { return `/api/chats/${this.ref}/turns/${turn.id}/${what}`; }

  pairAddress(pair) { return `/api/chats/${this.ref}/pairs/${pair}`; }

  /** What the server says of the two answers after the choice. */
  chosen({ tip, turns }) {
    turns.forEach((turn) => this.tree.put(turn));
    this.tip = tip;
  }
}

export class Passing extends Conversation {
  static stores = false;
  #last = 0;
  #asks = new Map(); // a turn -> how to end its request

  #add(turn) {
    this.#last -= 1;
    this.tip = this.#last;
    return this.tree.put({ id: this.#last, note: null, html: null, rich: false, model: null, pair: null, place: null, verdict: null, thumb: null, edit: null, ...turn });
  }

  async send(parent, text) {
    this.#ask(this.#add({ parent, role: "user", text, state: "done" }));
  }

  async again(parent) { this.#ask(this.tree.get(parent)); }

  #ask(message) {
    const pair = this.settings.compare ? newKey() : null;
    const turns = (pair ? [0, 1] : [0]).map((place) => this.#add({ parent: message.id, role: "assistant", text: "", state: "writing", pair, place: pair ? place : null }));
    this.tip = turns[0].id;
    const ending = new AbortController();
    turns.forEach((turn) => this.#asks.set(turn.id, ending));
    const path = this.tree.branch(message.id).map((step) => step.find((turn) => this.#isOn(turn, message)) ?? step[0]);
    const messages = [];
    for (const { role, text } of path) {
      if (text.trim()) messages.push({ role, content: text });
      else messages.pop(); // an empty answer goes with its message: roles take turns
    }
    this.#read(turns, messages, ending.signal);
  }

  /** Whether a turn is on the way to a message. */
  #isOn(turn, message) {
    for (let one = message; one; one = this.tree.get(one.parent)) if (one === turn) return true;
    return false;
  }

  async #read(turns, messages, signal) {
    let note = null;
    try {
      for await (const line of posted("/api/passing", { messages, settings: this.settings }, signal)) {
        const turn = turns[line.place];
        if (line.end) {
          const { model, ...end } = line.end;
          Object.assign(turn, end, turn.pair ? { hidden: model } : { model });
        } else turn.text += line.text;
        this.on.changed(turn);
      }
    } catch (error) {
      if (error instanceof Refusal) note = error.message;
      else if (error.name !== "AbortError") note = "The connection broke off.";
    }
    for (const turn of turns) {
      this.#asks.delete(turn.id);
      if (turn.state !== "writing") continue;
      Object.assign(turn, { state: note ? "failed" : "stopped", note });
      this.on.changed(turn);
    }
  }

  async stop() { for (const ending of this.#asks.values()) ending.abort(); }

  async show(tip) { this.tip = tip; }

  async set(settings) { this.settings = settings; }

  /** A choice that is shown and nowhere kept. */
  choose(step, verdict) {
    for (const turn of step) Object.assign(turn, { model: turn.hidden, verdict: { verdict, blind: null } });
    this.tip = step[verdict === "right" ? 1 : 0].id;
  }
}
