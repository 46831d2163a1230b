// What was submitted and not yet acknowledged. It is kept in this browser until the server has it, and every entry has a
// key of its own, so that the server takes it once however often it comes.
//
// Each entry is stored under a name of its own: tabs of one browser add and drop entries at the same time.
import { headers, person, root } from "./site.js";

const WAITS = [1000, 2000, 4000, 8000, 15000, 30000];

/** An entry that an older version of this page left, as the API takes it. */
function today(entry) {
  const old = /^\/work\/([^/]+)\/(submit|skip|personal)$/.exec(entry.url);
  if (!old) return entry;
  const { lease, draft, judgement, ...body } = entry.body;
  const action = old[2] === "personal" ? "personal-data" : old[2];
  if (judgement) body.answer = judgement;
  if (action !== "submit") delete body.seconds;
  if (action !== "personal-data") body.idempotency_key = entry.key;
  return { ...entry, url: `${root}/api/projects/${old[1]}/tasks/${lease}/${action}`, body, lease, draft };
}

/** Runs `work` while no other tab runs the work of this name. Browsers offer this on https and localhost only. */
const alone = (name, work) => (navigator.locks ? navigator.locks.request(name, work) : work());

export class Outbox {
  constructor({ answered, refused, state }) {
    this.name = `heedful:outbox:${root && `${root}:`}${person}`;
    this.on = { answered, refused, state };
    this.tries = 0;
    this.unstored = new Map(); // entries for which the browser has no room
    addEventListener("online", () => this.flush());
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") this.flush(); });
  }

  /** The oldest first. */
  get entries() {
    this.#takeOver();
    const names = Object.keys(localStorage).filter((name) => name.startsWith(`${this.name}:`));
    const found = names.map((name) => JSON.parse(localStorage.getItem(name))).filter(Boolean);
    return [...found, ...this.unstored.values()].sort((one, other) => one.at - other.at);
  }

  get pending() { return this.entries.length; }

  /** Entries that older versions of this page leave in one list, also while this page is open. */
  #takeOver() {
    const list = localStorage.getItem(this.name);
    if (!list || list === "[]") return;
    localStorage.removeItem(this.name); // first, as there may be no room for both
    JSON.parse(list).forEach((entry, place) => this.#store({ ...today(entry), at: place }));
  }

  #store(entry) {
    try {
      localStorage.setItem(`${this.name}:${entry.key}`, JSON.stringify(entry));
      this.unstored.delete(entry.key);
    } catch {
      this.unstored.set(entry.key, entry);
    }
  }

  #drop(key) {
    this.unstored.delete(key);
    localStorage.removeItem(`${this.name}:${key}`);
  }

  /** `keyed`: the body gets the key. `kept` (lease, draft) stays in this browser, with the entry. */
  add(url, body, kept, keyed = true) {
    const key = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");
    const at = Math.max(Date.now(), (this.entries.at(-1)?.at ?? 0) + 1);
    this.#store({ url, body: keyed ? { ...body, idempotency_key: key } : body, key, at, ...kept });
    this.flush();
    return key;
  }

  /** Takes the last entry back, unless it may have been sent by this or another tab. */
  takeBack(key) {
    return alone(`${this.name} edit`, () => {
      const last = this.entries.at(-1);
      if (last?.key !== key || last.sent) return false;
      this.#drop(key);
      return true;
    });
  }

  /** Notes that an entry may have been sent, before it is. False: it was taken back. */
  #mark(key) {
    return alone(`${this.name} edit`, () => {
      const entry = this.entries.find((one) => one.key === key);
      if (entry) this.#store({ ...entry, sent: true });
      return Boolean(entry);
    });
  }

  /** Sends what there is, in order; resolves when nothing more can be sent for now. */
  flush() {
    clearTimeout(this.timer);
    this.running ??= this.#all().finally(() => { this.running = null; });
    return this.running;
  }

  async #all() {
    await alone(this.name, async () => { // one tab at a time
      for (let entry = this.entries[0]; entry; entry = this.entries[0]) {
        if (await this.#mark(entry.key) && !(await this.#send(entry))) return;
      }
    });
  }

  async #send(entry) {
    let response, body;
    try {
      response = await fetch(entry.url, { method: "POST", headers: headers("text/html"), body: JSON.stringify(entry.body) });
      body = response.ok ? await response.text() : await response.json().catch(() => ({}));
    } catch {
      return this.#later("offline");
    }
    if (response.ok) {
      this.#drop(entry.key);
      this.tries = 0;
      this.on.state(this.pending ? "sending" : "sent", this.pending);
      this.on.answered(body, entry);
      return true;
    }
    if (response.status === 401) {
      this.on.state(body.code === "other_person" ? "other-person" : "signed-out", this.pending);
      return false;
    }
    if (response.status === 403 && !body.code) { // not because of the answer: of a proxy, or of a role that a lead may give back
      this.on.state("forbidden", this.pending);
      return false;
    }
    if (response.status >= 500 || response.status === 429) return this.#later("busy");
    this.#drop(entry.key);
    this.on.refused(body, entry, response.status);
    return true;
  }

  #later(why) {
    this.on.state(why, this.pending);
    this.timer = setTimeout(() => this.flush(), WAITS[Math.min(this.tries, WAITS.length - 1)]);
    this.tries += 1;
    return false;
  }
}
