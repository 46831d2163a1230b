// Drafts: at once in this browser, and a moment later on the server.

import { headers } from "./site.js";

const PAUSE = 700; // ms without a change before the server is told
const GONE = new Set(["lost", "done", "unknown"]); // codes of the server for an item that this labeler no longer has

export class Drafts {
  constructor(api, { saved, gone }) {
    this.api = api;
    this.saved = saved;
    this.gone = gone;
  }

  name(lease) { return `heedful:draft:${lease}`; }

  read(lease) { return JSON.parse(localStorage.getItem(this.name(lease)) ?? "null"); }

  #write(lease, kept) {
    try {
      localStorage.setItem(this.name(lease), JSON.stringify(kept));
    } catch { /* full or forbidden: the server still gets it */ }
  }

  /** The newer of what this browser and the server have. This one's is newer unless the server was told by another
      browser since this one last heard of it (`seen`); only then clocks decide. `drafted`: when the server was told. */
  kept(lease, fromServer, drafted) {
    this.lease = lease;
    this.seen = drafted;
    const local = this.read(lease);
    if (local?.draft && ((local.seen ?? 0) >= drafted || local.at > drafted)) return local.draft;
    localStorage.removeItem(this.name(lease));
    return fromServer;
  }

  keep(lease, draft) {
    this.#write(lease, { draft, at: Date.now(), seen: this.seen });
    this.saved("typing");
    clearTimeout(this.timer);
    this.waiting = { lease, draft };
    this.timer = setTimeout(() => this.send(), PAUSE);
  }

  /** Keeps the seconds spent on an item, also where nothing was drafted; they make a draft no newer. */
  spend(lease, seconds) {
    this.#write(lease, { at: Date.now(), ...this.read(lease), seconds });
  }

  /** Those that this browser knows of. */
  seconds(lease) {
    const local = this.read(lease);
    return Math.max(local?.seconds ?? 0, local?.draft?.seconds ?? 0);
  }

  /** `leaving`: the page is about to go. Only then is the message kept alive: one of more than 64 KiB cannot be. */
  async send(leaving = false) {
    clearTimeout(this.timer);
    const { waiting } = this;
    if (!waiting) return;
    this.waiting = null;
    try {
      const { lease, draft } = waiting;
      const response = await fetch(`${this.api}/tasks/${lease}/draft`, {
        method: "PUT", headers: headers(), body: JSON.stringify({ draft }), keepalive: leaving,
      });
      const body = await response.json().catch(() => ({}));
      if (GONE.has(body.code)) return this.gone(waiting.lease, body.error);
      this.saved(response.ok ? "server" : "here");
      if (response.ok && waiting.lease === this.lease) this.heard(Date.parse(body.drafted));
    } catch {
      this.saved("offline");
    }
  }

  heard(drafted) {
    this.seen = drafted;
    const local = this.read(this.lease);
    if (local) this.#write(this.lease, { ...local, seen: drafted });
  }

  forget(lease) {
    if (this.waiting?.lease === lease) { clearTimeout(this.timer); this.waiting = null; }
    localStorage.removeItem(this.name(lease));
  }

  /** Drafts of items that ended long ago are dropped. */
  tidy() {
    const old = Date.now() - 7 * 24 * 3600 * 1000;
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith("heedful:draft:") && JSON.parse(localStorage.getItem(name)).at < old) localStorage.removeItem(name);
    }
  }
}
