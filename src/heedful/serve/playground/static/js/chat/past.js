// The list of stored chats next to the conversation.
import { root } from "../site.js";
import { call } from "./server.js";
import { act, make } from "./steps.js";

const DAY = 24 * 3600 * 1000;
const PAGE = 60; // chats that the server lists at once

const age = (when) => {
  const start = new Date().setHours(0, 0, 0, 0);
  const time = Date.parse(when);
  if (time >= start) return "Today";
  if (time >= start - DAY) return "Yesterday";
  if (time >= start - 6 * DAY) return "This week";
  return new Date(time).toLocaleDateString("en", { month: "long", year: "numeric" });
};

export class Past {
  constructor(element, chats, stores) {
    Object.assign(this, { element, chats, stores });
    this.list = element.querySelector("[data-past]");
    this.empty = element.querySelector("[data-past-empty]");
    this.older = element.querySelector('[data-do="more"]');
    this.older.hidden = chats.length < PAGE;
  }

  async more() {
    const found = await call("GET", `/api/chats?after=${this.chats.at(-1).ref}`);
    this.chats.push(...found);
    this.older.hidden = found.length < PAGE;
    this.show(this.current);
  }

  /** Puts a chat in front, and marks it as the one that is shown. */
  now(chat) {
    this.chats = [chat, ...this.chats.filter((one) => one.ref !== chat.ref)];
    this.show(chat.ref);
  }

  rename(ref, title) {
    this.chats.find((one) => one.ref === ref).title = title;
    this.show(this.current);
  }

  show(current) {
    this.current = current;
    const rows = [];
    let head = "";
    for (const { ref, title, updated } of this.chats) {
      if (age(updated) !== head) rows.push(make("li", { class: "age", text: head = age(updated) }));
      const here = ref === current;
      rows.push(make("li", { class: "one" },
        make("a", { href: `${root}/chat/${ref}`, title, "aria-current": here ? "page" : null }, make("bdi", { text: title })),
        here && act("edit", "Rename this chat", "rename"), here && act("trash", "Delete this chat", "remove")));
    }
    this.list.replaceChildren(...rows);
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = this.stores ? "Your chats appear here." : "Your chats are not stored.";
  }
}
