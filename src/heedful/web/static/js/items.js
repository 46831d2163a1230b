// The list of items: filters apply as they are chosen, and what is chosen changes together.

const finder = document.querySelector("[data-finder]");
const filters = finder.querySelector("[data-filters]");
const wide = matchMedia("(width >= 60rem)");
if (wide.matches) filters.open = true;

/** The address names only what is set. */
finder.addEventListener("submit", () => { for (const control of finder.elements) control.disabled = control.name && !control.value; });
finder.addEventListener("change", (event) => { if (event.target.matches("select")) finder.requestSubmit(); });
addEventListener("pageshow", () => { for (const control of finder.elements) control.disabled = false; }); // back again

const form = document.querySelector("[data-bulk]");
const bar = form?.querySelector("[data-chosen]");
if (bar) {
  const page = form.querySelector("[data-page]");
  const boxes = [...form.querySelectorAll("[name=refs]")];
  const count = bar.querySelector("[data-count]");
  const all = bar.querySelector("[data-all]");
  const matching = [...bar.querySelectorAll("[data-matching]")];
  const what = bar.querySelector("[data-what]");
  let everything = false;

  const show = () => {
    const chosen = everything ? Number(form.dataset.total) : boxes.filter((box) => box.checked).length;
    bar.hidden = bar.disabled = !chosen;
    count.textContent = `${chosen.toLocaleString("en")} chosen`;
    page.checked = boxes.every((box) => box.checked);
    page.indeterminate = !page.checked && chosen > 0;
    if (all) all.hidden = everything || !page.checked;
    for (const box of boxes) box.disabled = everything;
    for (const input of matching) input.disabled = !everything;
    for (const input of bar.querySelectorAll("[data-for]")) {
      input.disabled = input.dataset.for !== what.value;
      if (input.type !== "hidden") input.hidden = input.disabled;
    }
  };
  page.addEventListener("change", () => {
    everything = false;
    for (const box of boxes) box.checked = page.checked;
    show();
  });
  all?.addEventListener("click", () => { everything = true; show(); });
  form.addEventListener("change", show);
  addEventListener("pageshow", show);
  show();
}
