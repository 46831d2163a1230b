// A button with `data-copy` (a selector) copies the text of that element next to it.
// Browsers allow the clipboard on localhost and https only. Elsewhere the text is selected and copied the old way.

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  select(element);
  if (!document.execCommand("copy")) throw new Error("not allowed");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.parentElement.querySelector(button.dataset.copy);
  try {
    await copy(text);
    button.textContent = "Copied";
  } catch {
    select(text);
    button.textContent = "Press Ctrl+C";
  }
});
