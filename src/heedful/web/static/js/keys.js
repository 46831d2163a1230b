// Keys: one table a page, from which presses are answered and the page of all keys is made.
// A key never fires while text is typed, except those that say `typing`.

const NAMES = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", " ": "Space", "Ctrl+Enter": "Ctrl Enter", "Alt+n": "Alt N", "Alt+p": "Alt P", Escape: "Esc" };
const TEXT_INPUTS = new Set(["text", "search", "email", "password", "url", "number", "tel", ""]);

let groups = [];

export const isTyping = (target) =>
  target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable ||
  (target instanceof HTMLInputElement && TEXT_INPUTS.has(target.getAttribute("type") ?? ""));

// Keys that a focused control answers by itself.
const belongsToControl = (name, target) => {
  if (!(target instanceof Element)) return false;
  if (name === "Enter") return Boolean(target.closest("a, button, summary"));
  if (name === " ") return Boolean(target.closest("a, button, summary, input"));
  return name.startsWith("Arrow") && target.matches("input[type=radio]");
};

/** What a key means. A layout that writes other letters than Latin ones (Greek, Cyrillic, Arabic) says where the key is. */
export function meaning({ key, code, shiftKey }) {
  if (key.length !== 1) return key;
  if (key <= "\x7f") return key.toLowerCase();
  if (code === "Slash") return shiftKey ? "?" : "/";
  return /^(?:Key|Digit)(.)$/.exec(code)?.[1].toLowerCase() ?? key;
}

const pressed = (event) => {
  const plain = meaning(event);
  if (event.ctrlKey || event.metaKey) return `Ctrl+${plain}`;
  if (event.altKey) return `Alt+${event.code.startsWith("Key") ? event.code.slice(3).toLowerCase() : plain}`;
  return plain;
};

/** Adds a group of bindings: [{keys, what, run, shown?, when?, typing?}]; returns a function that takes it away. */
export function bind(title, bindings) {
  const group = { title, bindings };
  groups.push(group);
  return () => { groups = groups.filter((other) => other !== group); };
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const name = pressed(event);
  const typing = isTyping(event.target);
  if (!typing && belongsToControl(name, event.target)) return;
  for (const { bindings } of groups.toReversed()) {
    for (const binding of bindings) {
      if (!binding.keys.includes(name) || (typing && !binding.typing) || (binding.when && !binding.when())) continue;
      event.preventDefault();
      if (!event.repeat || binding.repeat) binding.run(name);
      return;
    }
  }
});

/** The table of all keys, as elements. */
export function table() {
  const all = document.createElement("div");
  all.className = "key-groups";
  for (const { title, bindings } of groups) {
    const section = document.createElement("section");
    const heading = document.createElement("h3");
    heading.textContent = title;
    const list = document.createElement("dl");
    for (const binding of bindings) {
      if (binding.when && !binding.when() && !binding.always) continue;
      const term = document.createElement("dt");
      (binding.shown ?? binding.keys.map((key) => NAMES[key] ?? key)).forEach((name, place) => {
        if (place) term.append(" ");
        const key = document.createElement("kbd");
        key.textContent = name;
        term.append(key);
      });
      const what = document.createElement("dd");
      what.textContent = binding.what;
      list.append(term, what);
    }
    if (list.children.length) all.append(section);
    section.append(heading, list);
  }
  return all;
}
