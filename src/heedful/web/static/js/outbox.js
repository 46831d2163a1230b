// What was submitted and not yet acknowledged. It is kept in this browser until the server has it, and every entry has a
// key of its own, so that the server takes it once however often it comes.

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
  return { ...entry, url: `/api/projects/${old[1]}/tasks/${lease}/${action}`, body, lease, draft };
}

export class Outbox {
  constructor(person, { answered, refused, state }) {
    this.name = `heedful:outbox:${person}`;
    this.on = { answered, refused, state };
    this.tries = 0;
    this.sending = null;
    this.entries = this.entries.map(today);
    addEventListener("online", () => this.flush());
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") this.flush(); });
  }

  get entries() { return JSON.parse(localStorage.getItem(this.name) ?? "[]"); }

  set entries(entries) { localStorage.setItem(this.name, JSON.stringify(entries)); }

  get pending() { return this.entries.length; }

  /** `keyed`: the body gets the key. `kept` (lease, draft) stays in this browser, with the entry. */
  add(url, body, kept, keyed = true) {
    const key = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("-");
    this.entries = [...this.entries, { url, body: keyed ? { ...body, idempotency_key: key } : body, key, ...kept }];
    this.flush();
    return key;
  }

  /** Takes the last entry back, unless it may have been sent. */
  takeBack(key) {
    const entries = this.entries;
    if (this.sending === key || entries.at(-1)?.key !== key || entries.at(-1).sent) return false;
    this.entries = entries.slice(0, -1);
    return true;
  }

  /** Sends what there is, in order; resolves when nothing more can be sent for now. */
  flush() {
    clearTimeout(this.timer);
    this.running ??= this.#all().finally(() => { this.running = null; });
    return this.running;
  }

  async #all() {
    const work = async () => {
      for (let entry = this.entries[0]; entry; entry = this.entries[0]) {
        this.sending = entry.key;
        const done = await this.#send(entry);
        this.sending = null;
        if (!done) return;
      }
    };
    if (navigator.locks) await navigator.locks.request(this.name, work); // one tab at a time
    else await work();
  }

  #drop(key) { this.entries = this.entries.filter((entry) => entry.key !== key); }

  async #send(entry) {
    let response, body;
    try {
      response = await fetch(entry.url, {
        method: "POST", headers: { Accept: "text/html", "Content-Type": "application/json" }, body: JSON.stringify(entry.body),
      });
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
      this.on.state("signed-out", this.pending);
      return false;
    }
    if (response.status >= 500 || response.status === 429) return this.#later("busy");
    this.#drop(entry.key);
    this.on.refused(body, entry, response.status);
    return true;
  }

  #later(why) {
    this.entries = this.entries.map((entry) => (entry.key === this.sending ? { ...entry, sent: true } : entry));
    this.on.state(why, this.pending);
    this.timer = setTimeout(() => this.flush(), WAITS[Math.min(this.tries, WAITS.length - 1)]);
    this.tries += 1;
    return false;
  }
}
