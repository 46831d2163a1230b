// Light, dark or as the system has it; kept in this browser. Loaded before the first paint, so that nothing flashes.
(() => {
  const root = document.documentElement;
  const kept = () => {
    try { return localStorage.getItem("heedful:theme") || "auto"; } catch { return "auto"; }
  };
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };
  apply(kept());
  const show = () => {
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === kept()));
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-set-theme]");
      const menu = document.querySelector(".menu[open]");
      if (menu && !menu.contains(event.target)) menu.open = false;
      if (!button) return;
      try { localStorage.setItem("heedful:theme", button.dataset.setTheme); } catch { /* private window: for this page only */ }
      apply(button.dataset.setTheme);
      show();
    });
    document.addEventListener("keydown", (event) => {
      const menu = document.querySelector(".menu[open]");
      if (event.key === "Escape" && menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
  });
})();
