// The place of work: shows an item, keeps its draft, has the next one ready, and submits without waiting.
import { bind, meaning } from "./keys.js";
import { anyOpen, dialog, open } from "./dialogs.js";
import { Choice } from "./choice.js";
import { Clock } from "./clock.js";
import { Drafts } from "./drafts.js";
import { Outbox } from "./outbox.js";
import { Ranking } from "./ranking.js";
import { headers, root, signIn } from "./site.js";
import { Writing } from "./writing.js";
import "./pages.js";

const FORMS = { ranking: Ranking, choice: Choice, demonstration: Writing, prompt: Writing };

const stage = document.getElementById("stage");
const line = document.querySelector("[data-line]");
const { work, api, kind } = stage.dataset;

let item = null; // the item on the page: {element, lease, form}
let ahead = null; // a promise of the next one's HTML
let last = null; // the item submitted last, while its submission may still be taken back here
let unbind = [];
let stuck = false; // whether the line at the top says that something was not sent
let starved = false; // whether it says that the next item could not be loaded
const sent = new Set(); // leases of what was submitted from this page and not taken back
const clock = new Clock();

// ---- words at the top

const STATES = {
  offline: (count) => `No connection. ${kept(count)} on this device. heedful sends it when the connection is back. You can continue.`,
  busy: (count) => `The server is busy. ${kept(count)} on this device. heedful sends it again in a moment.`,
  "signed-out": (count) => `You are signed out. ${kept(count)} on this device.`,
  "other-person": (count) => `Another account is signed in on this browser. ${kept(count)} on this device until you sign in again.`,
  forbidden: (count) => `The server does not take your work now. ${kept(count)} on this device. Tell a lead of the project.`,
};
const LINKS = { "signed-out": () => [signIn(), "Sign in again"], "other-person": () => [`${root}/projects`, "To the other account"] };
const kept = (count) => (count === 0 ? "Your draft is kept" : count === 1 ? "Your last answer is kept" : `${count} answers are kept`);

/** `link` and `stay`: for what lasts; other words go after a while. */
function tell(words, { link, stay } = {}) {
  clearTimeout(tell.timer);
  if (words && !stay) tell.timer = setTimeout(() => { line.hidden = true; }, 7000);
  line.hidden = !words;
  line.firstElementChild.textContent = words;
  if (!link) return;
  const anchor = document.createElement("a");
  [anchor.href, anchor.textContent] = link;
  line.firstElementChild.append(" ", anchor);
}

function saved(state) {
  const place = item?.element.querySelector("[data-saved]");
  if (!place) return;
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  place.textContent = { typing: "Saved on this device", server: `Draft saved ${time}`, here: `Draft saved on this device only ${time}`, offline: `No connection: draft saved on this device ${time}` }[state];
}

// ---- items

const drafts = new Drafts(api, { saved, gone });
const outbox = new Outbox({
  state(name, count) {
    const words = STATES[name];
    const link = LINKS[name]?.();
    if (words || stuck) tell(words ? words(count) : "", { link, stay: true });
    stuck = Boolean(words);
  },
  answered(html, entry) {
    if (!entry.url.endsWith("/personal-data")) drafts.forget(entry.lease);
    if (entry.url.endsWith("/submit")) acknowledged(fragment(html));
  },
  async refused({ error, code }, entry) {
    tell(`The last item was not accepted: ${error ?? "the server gave no reason"}.`, { stay: true });
    stuck = true;
    if (code !== "invalid") return;
    const { element } = await fetchTask(`tasks/${entry.lease}`).catch(() => ({}));
    if (element) mount(element, entry.draft);
  },
});

/** HTML from our own server, where every text is escaped, as elements. */
function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/** Shows a task (by default the one on the page), filled with a draft. */
function mount(shown, draft) {
  for (const off of unbind) off();
  unbind = [];
  if (shown) stage.replaceChildren(shown);
  const element = stage.firstElementChild;
  const before = element.outerHTML;
  const Form = FORMS[element.dataset.kind];
  item = null;
  if (Form) {
    const { lease } = element.dataset;
    sent.delete(lease);
    const fromServer = JSON.parse(element.dataset.draft ?? "null");
    clock.start(Math.max(drafts.seconds(lease), ...[draft, fromServer, element.dataset].map((known) => Number(known?.seconds ?? 0))));
    const newest = drafts.kept(lease, fromServer, Number(element.dataset.drafted ?? 0));
    const kept = draft ?? newest;
    const form = new Form(element, kept, { changed: () => item && drafts.keep(lease, draftOf()), submit });
    item = { element, lease, form, html: before, personal: Boolean(kept?.personal) };
    showPersonal();
    if (kept) saved("server");
    for (const [title, bindings] of form.bindings()) unbind.push(bind(title, bindings));
    form.focus();
  }
  tellOfGuide(Number(element.dataset.guide ?? 0));
  window.scrollTo(0, 0);
}

/** Once for each version of the guide that is newer than the one this browser knows. */
function tellOfGuide(version) {
  if (!version) return;
  const name = `heedful:guide:${work}`;
  const known = Number(localStorage.getItem(name) ?? version);
  try { localStorage.setItem(name, Math.max(version, known)); } catch { /* full: it is told again */ }
  if (version > known) tell("The guide has changed.", { link: [`${work}/guide`, "Read it"], stay: true });
}

const draftOf = () => ({ ...item.form.draft(), seconds: clock.seconds, ...(item.personal && { personal: true }) });

/** A task from the API: its element, its lease (none where there is no task), and until when it is this labeler's. */
async function fetchTask(address, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(`${api}/${address}`, { headers: headers("text/html"), ...options });
  if (!response.ok) {
    const { error, code } = await response.json().catch(() => ({}));
    throw Object.assign(new Error(error ?? `status ${response.status}`), { code: code ?? response.status });
  }
  const element = fragment(await response.text()).firstElementChild;
  return { element, lease: element.dataset.lease, until: Date.now() + 1000 * Number(element.dataset.lasts) };
}

/** The labeler no longer has the item on the page: show the next one. */
function gone(lease, why) {
  if (item?.lease !== lease || sent.has(lease)) return;
  for (const id of ["skip", "personal", "compare"]) dialog(id).close();
  tell(`This item is gone: ${why}.`, { stay: true });
  stuck = true;
  next();
}

/** Asks for an item besides those that are on the page or on their way to the server; `settled`: none is on its way. */
const another = async (settled = false) => {
  const besides = item?.lease ?? "";
  const found = await fetchTask(`next?kind=${kind}${besides && `&besides=${besides}`}`, {});
  // the server may have answered this before it had the last submission, and that one may be acknowledged by now
  const again = found.lease && (found.lease === besides || (!settled && sent.has(found.lease)) || outbox.entries.some((entry) => entry.lease === found.lease));
  return again ? null : found;
};

function prefetch() {
  ahead = another().catch(() => null);
}

async function next() {
  const wanted = ahead, left = item;
  item?.element.setAttribute("inert", "");
  let found = await wanted;
  if (!found?.lease || Date.now() > found.until) { // nothing was ready, or for too long: ask again, once what was submitted is in
    await outbox.flush();
    try { found = await another(true); } catch (error) {
      if (error.code === 401 || error.code === "other_person") return outbox.on.state(error.code === 401 ? "signed-out" : "other-person", outbox.pending);
      found = null;
    }
  }
  if (item !== left) { // an item came back meanwhile, refused or taken back: the next one waits
    ahead = found && Promise.resolve(found);
    return;
  }
  if (!found) {
    tell("No connection. The next item appears when it is back. Your submissions are kept on this device.", { stay: true });
    stuck = starved = true;
    ahead = null;
    setTimeout(() => item === left && next(), 3000);
    return;
  }
  mount(found.element);
  if (starved && !outbox.pending) { // only then: why an answer was refused stays to be read
    tell("");
    stuck = false;
  }
  starved = false;
  if (item) prefetch();
}

function send(action, body) {
  const { lease, html } = item;
  sent.add(lease);
  const draft = draftOf();
  drafts.keep(lease, draft);
  clearTimeout(drafts.timer);
  drafts.waiting = null;
  const key = outbox.add(`${api}/tasks/${lease}/${action}`, body, { lease, draft });
  last = { key, html, draft };
}

function submit() {
  if (!item || sent.has(item.lease) || anyOpen()) return;
  const missing = item.form.missing();
  if (missing) return urge();
  send("submit", { answer: item.form.judgement(), seconds: clock.seconds });
  next();
}

function urge() {
  const words = item.element.querySelector(".board:not([hidden]) [data-missing], .verdict [data-missing], .go [data-missing]");
  if (!words) return;
  words.classList.remove("urged");
  words.textContent = ""; // what changes is read out, also where it says the same again
  requestAnimationFrame(() => {
    words.textContent = item?.form.missing() ?? "";
    words.classList.add("urged");
  });
}

async function undo() {
  if (last && await outbox.takeBack(last.key)) {
    mount(fragment(last.html).firstElementChild, last.draft);
    last = null;
    return tell("");
  }
  if (outbox.pending) await Promise.race([outbox.flush(), new Promise((done) => setTimeout(done, 2000))]); // it is on its way, from this tab or another
  if (outbox.pending) return tell("Your last answer is being sent. Press u again in a moment.");
  try {
    const { element } = await fetchTask("undo", {});
    last = null;
    if (element.dataset.kind !== kind) return location.assign(`${work}/${element.dataset.kind}`);
    const { doneToday: today } = element.dataset;
    mount(element);
    document.querySelector("[data-today]").textContent = today;
    tell("Taken back. Change it and submit it again.");
    prefetch();
  } catch (error) {
    if (error.code) return tell(`Not undone: ${error.message}.`);
    tell("Undo needs a connection. Try again in a moment.");
  }
}

// ---- what the server says after a practice or a gold item

function acknowledged(done) {
  document.querySelector(".bar [data-today]").textContent = done.querySelector("[data-today]").textContent;
  const answer = done.querySelector(".answered");
  if (done.querySelector("[data-disagreed]")) { // the consent text has changed: it comes before the next item
    const agree = () => location.assign(`${work}/consent?kind=${kind}`);
    if (!answer) return agree();
    dialog("answered").addEventListener("close", agree, { once: true });
  }
  if (!answer) return;
  dialog("answered").querySelector("[data-answered]").replaceChildren(answer);
  if (!anyOpen()) dialog("answered").showModal();
  dialog("answered").scrollTop = 0;
}

// ---- skip, personal data

function ask(id) {
  if (item && !sent.has(item.lease)) open(id);
}

dialog("skip").addEventListener("submit", (event) => {
  const { elements } = event.target;
  if (!elements.reason.value) {
    event.preventDefault();
    event.target.querySelector(".missing").textContent = "Choose a reason first, with a key from 1 to 6.";
    return;
  }
  dialog("skip").close(); // before the next item, which takes the focus
  send("skip", { reason: elements.reason.value, note: elements.note.value.trim() || null });
  event.target.reset();
  next();
});

dialog("skip").addEventListener("keydown", (event) => {
  const number = Number(meaning(event));
  const radios = dialog("skip").querySelectorAll("[name=reason]");
  if (event.target.matches("[name=note]") || !(number >= 1 && number <= radios.length)) return;
  radios[number - 1].checked = true;
  radios[number - 1].focus();
  event.preventDefault();
});

// Personal data: marked or not; the item stays.

function showPersonal() {
  const button = item.element.querySelector('[data-do="personal"]');
  button.setAttribute("aria-pressed", String(item.personal));
  button.querySelector("[data-personal]").textContent = item.personal ? "personal data marked" : "personal data";
}

function mark(marked, note) {
  item.personal = marked;
  showPersonal();
  outbox.add(`${api}/tasks/${item.lease}/personal-data`, { marked, note }, { lease: item.lease }, false);
  drafts.keep(item.lease, draftOf());
}

dialog("personal").addEventListener("submit", (event) => {
  mark(true, event.target.elements.note.value.trim() || null);
  event.target.reset();
});

// ---- buttons and keys of every item

const DO = { submit, undo, skip: () => ask("skip"), personal: () => (item?.personal ? mark(false, null) : ask("personal")), again: () => location.reload() };

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.getAttribute("aria-disabled") === "true") {
    if (button?.dataset.do === "submit" && item) urge();
    return;
  }
  if (button.type === "submit") return;
  if (!item?.form.do(button.dataset.do)) DO[button.dataset.do]?.();
});

bind("This item", [
  { keys: ["s"], what: "skip it, with a reason", when: () => item, run: () => ask("skip") },
  { keys: ["p"], what: "personal data in it, or take the mark away", when: () => item, run: () => DO.personal() },
  { keys: ["u"], what: "undo the last submission", when: () => stage.querySelector('[data-do="undo"]'), run: undo },
  { keys: ["n"], what: "look again for work", when: () => !item, run: () => location.reload() },
]);

addEventListener("pagehide", () => {
  if (item) drafts.spend(item.lease, clock.seconds);
  drafts.send(true);
});

drafts.tidy();
mount();
if (item && outbox.entries.some((entry) => entry.lease === item.lease)) next(); // submitted before, not yet sent
else if (item) prefetch();
outbox.flush();
