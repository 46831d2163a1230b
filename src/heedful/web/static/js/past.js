// A judgement of one's own history: taking it back leads to its item.
import { bind } from "./keys.js";
import "./pages.js";
import { headers } from "./site.js";

const button = document.querySelector("[data-take-back]");

async function takeBack() {
  const refused = document.querySelector("[data-refused]");
  try {
    const response = await fetch(`${button.dataset.api}/undo`, {
      method: "POST",
      headers: headers(),
      body: JSON.stringify({ event: Number(button.dataset.takeBack) }),
    });
    const found = await response.json();
    if (response.ok) location.assign(`${button.dataset.work}/${found.kind}`);
    else refused.textContent = found.error;
  } catch {
    refused.textContent = "No connection. Try again in a moment.";
  }
}

if (button) {
  button.addEventListener("click", takeBack);
  bind("This judgement", [{ keys: ["u"], what: "take it back and submit it again", run: takeBack }]);
}
