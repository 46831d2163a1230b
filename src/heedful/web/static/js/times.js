// Times come in UTC and are shown in the zone of the browser. The title names the zone and the time in UTC.
// `<time datetime="..." data-as="minute">`: see FORMS. Of a list with `data-days`, headings tell the days apart.

const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const DAY = { day: "numeric", month: "short", year: "numeric" };
const FORMS = {
  minute: { ...DAY, ...CLOCK },
  day: DAY,
  long: { ...DAY, month: "long" },
  "long-minute": { ...DAY, month: "long", ...CLOCK },
  clock: CLOCK,
};
const LOCALE = "en-GB"; // as the pages
const utc = (date) => date.toLocaleString(LOCALE, { ...FORMS.minute, timeZone: "UTC" });

function zone(date) {
  const parts = new Intl.DateTimeFormat(LOCALE, { timeZoneName: "long" }).formatToParts(date);
  return parts.find((part) => part.type === "timeZoneName").value;
}

function show(element) {
  const date = new Date(element.dateTime);
  element.textContent = date.toLocaleString(LOCALE, FORMS[element.dataset.as]);
  element.title = `${zone(date)}. ${utc(date)} UTC`;
  element.dataset.local = "";
}

/** A heading before the first entry of each day of this zone. */
function divide(list) {
  for (const heading of list.querySelectorAll(":scope > .day")) heading.remove();
  let last = "";
  for (const entry of [...list.children]) {
    const date = new Date(entry.querySelector("time").dateTime);
    const day = date.toLocaleDateString(LOCALE, { weekday: "long", day: "numeric", month: "long" });
    if (day !== last) {
      const heading = Object.assign(document.createElement("li"), { className: "day" });
      heading.append(Object.assign(document.createElement("h2"), { textContent: day }));
      entry.before(heading);
    }
    last = day;
  }
}

const all = (place) => { for (const element of place.querySelectorAll("time[data-as]:not([data-local])")) show(element); };
all(document);
for (const list of document.querySelectorAll("[data-days]")) divide(list);
new MutationObserver(() => all(document)).observe(document.body, { childList: true, subtree: true });
