// Two answers side by side with their differences marked.
import { difference } from "./difference.js";
import { dialog, open } from "./dialogs.js";

const words = (runs) => {
  const element = document.createElement("div");
  element.className = "words";
  element.dir = "auto";
  for (const [text, same] of runs) {
    if (same) element.append(text);
    else {
      const mark = document.createElement("mark");
      mark.textContent = text;
      element.append(mark);
    }
  }
  return element;
};

/** `sides`: two [letter, answer element]. */
export function compare(sides) {
  const texts = sides.map(([, answer]) => answer.querySelector(".words").textContent);
  const found = difference(...texts);
  const place = dialog("compare").querySelector("[data-compared]");
  place.replaceChildren(...sides.map(([letter], side) => {
    const section = document.createElement("section");
    const heading = document.createElement("h3");
    heading.className = "handle";
    heading.textContent = letter;
    section.append(heading, words(found ? found[side] : [[texts[side], true]]));
    return section;
  }));
  dialog("compare").querySelector("header p").textContent = found
    ? texts[0] === texts[1] ? "The two are the same, letter by letter." : "Marked: words that the other does not have in this place."
    : "Too different to mark word by word.";
  open("compare");
}
