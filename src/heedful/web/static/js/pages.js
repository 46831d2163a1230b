// What every labeler page has: the page of keys.
import { bind, table } from "./keys.js";
import { open, dialog } from "./dialogs.js";
import "./view.js";

export function showKeys() {
  dialog("keys").querySelector("[data-keys]").replaceChildren(table());
  open("keys");
}

document.addEventListener("click", (event) => {
  if (event.target.closest('[data-do="keys"]')) showKeys();
});

const kinds = [...document.querySelectorAll(".bar nav a")];
bind("Everywhere", [
  { keys: ["?"], what: "all keys", run: showKeys },
  { keys: kinds.map((_, place) => `Alt+${place + 1}`), shown: ["Alt", "1", "…"], what: "the pages of the top bar, from the left", typing: true,
    when: () => kinds.length > 0, run: (name) => kinds[Number(name.slice(4)) - 1].click() },
]);
