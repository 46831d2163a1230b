// A preview of Markdown: the server renders it, so that the preview and the page never differ.

import { headers, root } from "./site.js";

const PAUSE = 300; // ms without a change before the server is asked

export class Preview {
  constructor(element) { this.element = element; }

  show(text) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(text), PAUSE);
  }

  async #ask(text) {
    this.asked = text;
    try {
      const response = await fetch(`${root}/api/markdown`, { method: "POST", headers: headers(), body: JSON.stringify({ text }) });
      const { html, error } = await response.json();
      if (this.asked !== text) return; // a later one is on its way
      if (!response.ok) throw new Error(error);
      const shown = document.createElement("div");
      shown.className = "prose";
      shown.dir = "auto";
      shown.innerHTML = html; // from our own server, with the tags of its allow-list only
      this.element.replaceChildren(shown);
    } catch {
      this.element.textContent = "No connection: the preview needs the server.";
    }
  }
}
