// Prompts and answers as Markdown, or as they were written; kept in this browser.
import { bind } from "./keys.js";

const NAME = "heedful:plain";

function show() {
  let plain = false;
  try { plain = localStorage.getItem(NAME) === "true"; } catch { /* private window: Markdown */ }
  document.documentElement.toggleAttribute("data-plain", plain);
  for (const button of document.querySelectorAll('[data-do="view"]')) button.setAttribute("aria-pressed", String(plain));
}

function turn() {
  try { localStorage.setItem(NAME, String(!document.documentElement.hasAttribute("data-plain"))); } catch { /* as above */ }
  show();
}

document.addEventListener("click", (event) => { if (event.target.closest('[data-do="view"]')) turn(); });
bind("Texts", [{ keys: ["Alt+v"], shown: ["Alt", "v"], what: "plain text, or Markdown", typing: true, when: () => document.querySelector('[data-do="view"]'), run: turn }]);
new MutationObserver(show).observe(document.getElementById("content"), { childList: true, subtree: true }); // the next item has a button of its own
show();
