// The rubric of a project: presets fill the form, and a preview follows what is typed.
import { fields } from "./forms.js";

const PAUSE = 250; // ms without a change before the server is asked
const form = document.querySelector("[data-previews]");
const preview = document.getElementById("rubric-preview");

const shown = (value) => (Array.isArray(value) ? value.map((line) => (typeof line === "string" ? line : `${line.name}: ${line.words}`)).join("\n") : String(value));

/** Fills the form with settings: `{name: value}`, sections as nested objects. */
function fill(settings, before = "settings") {
  for (const [name, value] of Object.entries(settings)) {
    const path = `${before}.${name}`;
    if (value && typeof value === "object" && !Array.isArray(value)) {
      fill(value, path);
      continue;
    }
    for (const control of form.querySelectorAll(`[name="${path}"]`)) {
      if (control.type !== "checkbox") control.value = shown(value);
      else control.checked = control.hasAttribute("value") ? value.includes(control.value) : value;
    }
  }
}

async function ask() {
  const body = JSON.stringify({ settings: fields(form).settings });
  ask.last = body;
  try {
    const response = await fetch(form.dataset.previews, { method: "POST", headers: { "Content-Type": "application/json", Accept: "text/html" }, body });
    const answer = await response.text();
    if (ask.last !== body) return; // a later one is on its way
    if (response.ok) preview.innerHTML = answer; // from our own server, where every text is escaped
    else preview.textContent = response.headers.get("content-type")?.includes("json") ? JSON.parse(answer).error : answer;
  } catch {
    preview.textContent = "No connection: the preview needs the server.";
  }
}

const later = () => {
  clearTimeout(later.timer);
  later.timer = setTimeout(ask, PAUSE);
};

form.addEventListener("input", later);
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-preset]");
  if (!button) return;
  fill(JSON.parse(button.dataset.preset));
  ask();
});
