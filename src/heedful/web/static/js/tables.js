// On a phone the rows of a table with the class `flow` become short paragraphs, in which every cell says what it is.

for (const table of document.querySelectorAll("table.flow")) {
  const labels = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, place) => {
      cell.dataset.label = labels[place] ?? "";
      if (["", "–"].includes(cell.textContent.trim()) && !cell.querySelector("button, input")) cell.dataset.blank = "";
    });
  }
}
