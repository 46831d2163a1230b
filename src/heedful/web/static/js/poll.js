// Parts of a page that change by themselves: `<div data-poll="/api/...">` is filled again while it holds `data-live`.

const PAUSE = 1500; // ms between two questions

for (const place of document.querySelectorAll("[data-poll]")) {
  const ask = async () => {
    if (!place.querySelector("[data-live]")) return;
    if (document.visibilityState === "visible" && !place.querySelector("[aria-busy]")) {
      try {
        const response = await fetch(place.dataset.poll, { headers: { Accept: "text/html" } });
        if (response.ok) {
          const html = await response.text();
          // from our own server, where every text is escaped; what has not changed keeps its focus
          if (html !== place.last) place.innerHTML = place.last = html;
        }
      } catch { /* the server is away: ask again */ }
    }
    setTimeout(ask, PAUSE);
  };
  setTimeout(ask, PAUSE);
}
