// A short name follows from a title as long as nobody has typed one: `<input data-name-of="ID of the title">`.

const LETTERS = { ß: "ss", ä: "ae", ö: "oe", ü: "ue", ø: "o", æ: "ae", đ: "d", ł: "l", þ: "th" };

/** As `projects.name_of` on the server. */
const short = (title) => title.toLowerCase().replace(/[ßäöüøæđłþ]/g, (letter) => LETTERS[letter]).normalize("NFKD")
  .replace(/[^\x00-\x7f]/g, "").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 50).replace(/-+$/, "");

for (const name of document.querySelectorAll("[data-name-of]")) {
  const title = document.getElementById(name.dataset.nameOf);
  let own = name.value !== "";
  name.addEventListener("input", () => { own = name.value !== ""; });
  title.addEventListener("input", () => { if (!own) name.value = short(title.value); });
}
