// The page of imports: a file is dropped, chosen or pasted, and the preview follows every change.
import { previewed } from "./forms.js";

const PAUSE = 350; // ms without a change before the server is asked
const form = document.querySelector("form.importing");
const place = document.getElementById("preview");
const button = form.querySelector("[data-import]");
const waits = form.querySelector("[data-waits]");
const drop = form.querySelector("[data-drop]");
const file = form.querySelector("#file");
const second = form.querySelector("#baseline");
const START = waits.textContent;

/** Put one file into a field. */
function choose(field, one) {
  const moved = new DataTransfer();
  moved.items.add(one);
  field.files = moved.files;
}

function ready(count, words = "") {
  button.disabled = !count;
  button.textContent = count ? `Import ${count} item${count === 1 ? "" : "s"}` : "Import";
  waits.textContent = words;
}

function fail(error) {
  const line = document.createElement("p");
  line.className = "notice urgent";
  line.setAttribute("role", "alert");
  line.textContent = error;
  place.replaceChildren(line);
  ready(0);
}

async function ask() {
  const asked = (ask.last = Symbol("asked"));
  if (!file.files[0] && !second.files[0] && !form.elements.text.value.trim()) {
    place.replaceChildren();
    return ready(0, START);
  }
  ready(0, "Reading …");
  const { html, error } = await previewed(form, form.dataset.previews);
  if (asked !== ask.last) return; // a later one is on its way
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  if (error) return fail(error);
  place.innerHTML = html; // from our own server, where every text is escaped
  if (focused) document.getElementById(focused)?.focus();
  ready(Number(place.querySelector("[data-ready]").dataset.ready), "");
}

const later = () => {
  clearTimeout(later.timer);
  later.timer = setTimeout(ask, PAUSE);
};

form.addEventListener("input", (event) => {
  if (event.target.type === "file") place.replaceChildren(); // other fields, another mapping
  later();
});
form.addEventListener("heedful:done", () => {
  form.reset();
  ready(0, START);
});

for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.toggleAttribute("data-over", over);
  });
}
drop.addEventListener("drop", (event) => {
  const dropped = [...event.dataTransfer.files];
  if (!dropped.length) return;
  if (dropped.length > 2) return fail(`These are ${dropped.length} files. Drop one, or two files of answers to the same prompts.`);
  choose(file, dropped[0]);
  if (dropped[1]) {
    choose(second, dropped[1]);
    second.closest("details").open = true; // so that both names are seen
  }
  file.dispatchEvent(new Event("input", { bubbles: true }));
});
