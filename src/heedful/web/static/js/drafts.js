// Drafts: at once in this browser, and a moment later on the server.

const PAUSE = 700; // ms without a change before the server is told

export class Drafts {
  constructor(url, { saved }) {
    this.url = url;
    this.saved = saved;
  }

  name(lease) { return `heedful:draft:${lease}`; }

  read(lease) { return JSON.parse(localStorage.getItem(this.name(lease)) ?? "null"); }

  /** The newer of what this browser and the server have. This one's is newer unless the server was told by another
      browser since this one last heard of it (`seen`); only then clocks decide. `drafted`: when the server was told. */
  kept(lease, fromServer, drafted) {
    this.lease = lease;
    this.seen = drafted;
    const local = this.read(lease);
    if (local && ((local.seen ?? 0) >= drafted || local.at > drafted)) return local.draft;
    localStorage.removeItem(this.name(lease));
    return fromServer;
  }

  keep(lease, draft) {
    try {
      localStorage.setItem(this.name(lease), JSON.stringify({ draft, at: Date.now(), seen: this.seen }));
    } catch { /* full or forbidden: the server still gets it */ }
    this.saved("typing");
    clearTimeout(this.timer);
    this.waiting = { lease, draft };
    this.timer = setTimeout(() => this.send(), PAUSE);
  }

  async send() {
    clearTimeout(this.timer);
    const { waiting } = this;
    if (!waiting) return;
    this.waiting = null;
    try {
      const response = await fetch(`${this.url}/draft`, {
        method: "POST", headers: { Accept: "application/json", "Content-Type": "application/json" }, body: JSON.stringify(waiting), keepalive: true,
      });
      this.saved(response.ok ? "server" : "here");
      if (response.ok && waiting.lease === this.lease) this.heard((await response.json()).drafted);
    } catch {
      this.saved("here");
    }
  }

  heard(drafted) {
    this.seen = drafted;
    const local = this.read(this.lease);
    if (local) localStorage.setItem(this.name(this.lease), JSON.stringify({ ...local, seen: drafted }));
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
