// Dialogs: opened by name, closed by Esc or their own button; focus goes back where it was.

document.addEventListener("click", (event) => {
  const close = event.target.closest("dialog [data-close]");
  if (close) close.closest("dialog").close();
  else if (event.target instanceof HTMLDialogElement && event.target.id !== "answered") event.target.close();
});

export const dialog = (id) => document.getElementById(id);

export const anyOpen = () => Boolean(document.querySelector("dialog[open]"));

export function open(id) {
  if (!anyOpen()) dialog(id).showModal();
}
