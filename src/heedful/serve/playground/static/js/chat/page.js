// The page of a chat: what is shown, and what buttons and keys do.
import { anyOpen, dialog, open } from "../dialogs.js";
import { bind, table } from "../keys.js";
import { root } from "../site.js";
import { Composer } from "./composer.js";
import { Passing, Stored } from "./conversation.js";
import { Past } from "./past.js";
import { Reactions } from "./reactions.js";
import { Refusal, call, signIn } from "./server.js";
import { Settings } from "./settings.js";
import { StepView, icon, make } from "./steps.js";

const ALONE = {
  one: "This model reads one message, not the chat before it.", two: "Fewer than two models here read the chat before your message.",
  stored: "Your next message starts a new chat.", passing: "Your next message starts again, and the arrows lead back to this one.",
};
const NEAR = 120; // pixels from the end within which the page follows what is written
const VERDICTS = { 1: "left", 2: "tie", 3: "bad", 4: "right" };

const $ = (selector) => document.querySelector(selector);
const page = $(".chat");
const state = JSON.parse(page.dataset.state);
const turns = $("[data-turns]");
const views = new Map(); // a step's key -> its view
let editing = null; // the message that is changed
let sending = false;
let chat;

// News

let lineTimer;
function say(words, link) {
  const line = $("[data-line]");
  const text = line.querySelector("p");
  text.textContent = words;
  if (link) text.append(" ", make("a", { href: link[0], text: link[1] }));
  line.hidden = false;
  clearTimeout(lineTimer);
  lineTimer = setTimeout(() => { line.hidden = true; }, link ? 30_000 : 6000);
}

function failed(error) {
  if (!(error instanceof Refusal)) throw error;
  if (error.code === "consent") return openConsent(error.message);
  if (error.status === 401 && error.code === "signed-out") return say(error.message, [signIn(), "Sign in"]);
  say(error.message);
}

const attempt = async (work) => { try { return await work(); } catch (error) { failed(error); } return null; };

// What is shown

const key = (step) => step[0].pair ?? step[0].id;
const isAtEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - NEAR;
const toEnd = (behavior = "instant") => scrollTo({ top: document.documentElement.scrollHeight, behavior });

function context(step, last) {
  const { steps, at } = chat.tree.among(step);
  return { at, of: steps.length, last, stores: chat.constructor.stores, busy: isBusy(), model: chat.settings.model ?? state.models[0] };
}

const isBusy = () => sending || chat.writing.length > 0;

function render() {
  const { steps } = chat;
  const kept = new Set(steps.map(key));
  for (const [name, view] of views) if (!kept.has(name)) { view.element.remove(); views.delete(name); }
  steps.forEach((step, place) => {
    let view = views.get(key(step));
    if (!view) views.set(key(step), view = new StepView(step));
    if (turns.children[place] !== view.element) turns.insertBefore(view.element, turns.children[place] ?? null);
    view.update(step, context(step, place === steps.length - 1));
  });
  page.toggleAttribute("data-empty", chat.isEmpty);
  page.toggleAttribute("data-wide", steps.some((step) => step.length === 2));
  $("[data-welcome]").hidden = !chat.isEmpty;
  composer.show(chat.settings, isBusy(), startsAgain() ? `${ALONE[chat.settings.compare ? "two" : "one"]} ${ALONE[chat.constructor.stores ? "stored" : "passing"]}` : null);
  const own = settings.own(chat.settings);
  $('[data-do="settings"] span').textContent = own ? `Settings (${own} changed)` : "Settings";
  showStoring();
  jump();
}

let frame = null;
const waiting = new Set();
/** A turn has news. What comes within a frame is shown together. */
function changed(turn) {
  waiting.add(turn);
  frame ??= requestAnimationFrame(() => {
    frame = null;
    const end = isAtEnd();
    const ended = [...waiting].some((one) => one.state !== "writing");
    if (ended) render();
    else for (const one of waiting) {
      const step = chat.tree.step(one);
      views.get(key(step))?.update(step, context(step, step === chat.steps.at(-1)));
    }
    if (ended && !chat.writing.length) tell(waiting);
    waiting.clear();
    if (end) toEnd();
    jump();
  });
}

/** For those who do not see the page: an answer is complete. */
function tell(ended) {
  const words = [...ended].reduce((count, turn) => count + (turn.text.match(/\S+/g)?.length ?? 0), 0);
  $("[data-said]").textContent = ended.size > 1 ? "Both answers have ended." : `The answer has ended: ${words} words.`;
}

const jump = () => { $('[data-do="jump"]').hidden = isAtEnd() || chat.isEmpty; };

function showStoring() {
  const pill = $('[data-do="storing"]');
  const { stores } = chat.constructor;
  pill.dataset.stores = String(stores);
  pill.querySelector("[data-storing]").textContent = stores ? "Stored" : "Not stored";
  pill.title = !state.terms ? "This server stores no chats." : !chat.isEmpty ? stores ? "This chat is stored. You can delete it." : "This chat lives in this page only."
    : stores ? "Press to ask without storing." : "This chat will live in this page only.";
  pill.toggleAttribute("data-fixed", !chat.isEmpty || !state.terms);
  page.toggleAttribute("data-passing", !stores);
}

// Conversations

const on = { changed, failed };
const initial = () => ({ ...state.defaults, model: state.models[0], ...composer.choices() });
const mayStore = () => Boolean(state.terms && state.agreed);

function begin(stores, settings = initial()) {
  chat = new (stores ? Stored : Passing)(settings, on);
  render();
}

async function deliver(work) {
  sending = true;
  render();
  const done = await attempt(async () => { await work(); return true; });
  sending = false;
  editing = null;
  const isNew = chat.ref && !location.pathname.endsWith(`/chat/${chat.ref}`);
  if (isNew) {
    history.replaceState(null, "", `${root}/chat/${chat.ref}`);
    document.title = `${chat.title} · heedful`;
    $("[data-title]").textContent = chat.title;
  }
  if (chat.ref) past.now({ ref: chat.ref, title: chat.title, updated: new Date().toISOString() });
  render();
  return done;
}

async function send(text) {
  const fresh = startsAgain();
  composer.clear();
  if (fresh && chat.constructor.stores) {
    history.pushState(null, "", `${root}/`);
    begin(true, chat.settings);
  }
  const parent = fresh ? null : goesOn(chat.tip);
  const done = await deliver(() => chat.send(parent, text));
  if (!done && !composer.text.value) composer.fill(text);
  toEnd();
  $("[data-said]").textContent = done ? "Your message is sent. The answer begins." : "";
}

/** A message follows an answer. If the last message got none, the new one is another version of it. */
const goesOn = (tip) => { const turn = chat.tree.get(tip); return turn?.role === "user" ? turn.parent : turn?.id ?? null; };

/** Whether the model of the next message does not read what came before it. */
function startsAgain() {
  if (chat.isEmpty || goesOn(chat.tip) === null) return false;
  const { compare, model } = chat.settings;
  if (compare) return state.models.filter((name) => !state.alone.includes(name)).length < 2;
  return state.alone.includes(model ?? state.models[0]);
}

const again = (step) => deliver(() => chat.again(step[0].parent));

function show(step, by) {
  const { steps, at } = chat.tree.among(step);
  const other = steps[at + by];
  if (!other) return;
  attempt(() => chat.show(chat.tree.tip(other)));
  render();
  views.get(key(other)).element.querySelector(`[data-act="${by < 0 ? "earlier" : "later"}"]:not(:disabled), [data-act="copy"]`)?.focus();
}

/** Changes a message where it stands. */
function edit(step) {
  const [message] = step;
  const { element } = views.get(key(step));
  if (editing) return;
  editing = message.id;
  const box = make("textarea", { rows: 3, maxlength: 200000, "aria-label": "Your message" });
  box.value = message.text;
  const close = () => { form.remove(); element.removeAttribute("data-editing"); editing = null; };
  const form = make("form", { class: "rewrite" }, box, make("div", { class: "row" }, make("button", { type: "button", class: "button", text: "Cancel" }), make("button", { class: "button primary", text: "Send" })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return;
    close();
    deliver(() => chat.send(message.parent, text)).then(() => composer.text.focus({ preventScroll: true }));
  });
  form.querySelector("button").addEventListener("click", () => { close(); element.querySelector('[data-act="edit"]').focus(); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); form.querySelector("button").click(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  element.toggleAttribute("data-editing", true);
  element.append(form);
  box.focus();
}

function choose(step, verdict) {
  if (!step || step[0].verdict || step.some((turn) => turn.state !== "done")) return;
  if (chat.constructor.stores) reactions.choose(chat, step[0].pair, verdict);
  else { chat.choose(step, verdict); render(); }
}

async function copy(turn, button) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(turn.text);
    else copyOld(turn.text);
    button.replaceChildren(icon("check"));
    $("[data-said]").textContent = "Copied.";
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  } catch {
    say("The browser does not allow copying. Select the text.");
  }
}

/** Browsers offer the clipboard on https and localhost only. */
function copyOld(text) {
  const box = make("textarea", { class: "unseen" });
  box.value = text;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("not allowed");
}

// Parts of the page

const changeSettings = (more) => { attempt(() => chat.set({ ...chat.settings, ...more })); render(); };
const composer = new Composer($("[data-composer]"), { models: state.models, send, changed: changeSettings });
const settings = new Settings({ defaults: state.defaults, changed: changeSettings });
const past = new Past($("#past"), state.chats, mayStore());
const reactions = new Reactions({
  reasons: state.reasons,
  shown: () => render(),
  chose: (answer) => {
    if (!chat.tree.get(answer.turns[0].id)) return; // of another chat, from before
    chat.chosen(answer);
    render();
  },
  say,
});

function openConsent(words) {
  if (!state.terms) return;
  if (words) say(words);
  const buttons = dialog("consent");
  buttons.querySelector("[data-agree]").hidden = state.agreed;
  buttons.querySelector("[data-refuse]").textContent = state.agreed ? "Withdraw my consent" : "Do not store";
  buttons.querySelector("h2").textContent = state.agreed ? "Your chats may be stored" : "May your chats be stored?";
  open("consent");
}

dialog("consent")?.querySelector("form").addEventListener("submit", ({ submitter }) => attempt(async () => {
  const agrees = submitter.value === "yes";
  if (agrees !== state.agreed) await call("POST", "/api/playground/consent", { version: agrees ? state.terms : null });
  state.agreed = agrees;
  if (chat.isEmpty) begin(agrees, chat.settings);
  past.stores = agrees;
  past.show(past.current);
}));

$("[data-rename]").addEventListener("submit", (event) => attempt(async () => {
  const title = event.target.elements.title.value;
  await call("PATCH", `/api/chats/${chat.ref}`, { title });
  chat.title = title;
  past.rename(chat.ref, title);
  document.title = `${title} · heedful`;
}));

$("[data-remove]").addEventListener("submit", () => attempt(async () => {
  await call("DELETE", `/api/chats/${chat.ref}`);
  location.assign(`${root}/`);
}));

function drawer(shown) {
  page.toggleAttribute("data-past", shown);
  $(".scrim").hidden = !shown;
  $('[data-do="history"]').setAttribute("aria-expanded", String(shown));
  (shown ? $("#past a") : $('[data-do="history"]')).focus();
}

const lastStep = () => chat.steps.at(-1);
const does = {
  compare: () => composer.toggleCompare(),
  settings: () => settings.open(chat.settings),
  reset: () => settings.reset(),
  stop: () => attempt(() => chat.stop()),
  jump: () => toEnd("smooth"),
  more: () => attempt(() => past.more()),
  keys: () => { $("[data-keys]").replaceChildren(table()); open("keys"); },
  consent: () => openConsent(),
  unthumb: () => reactions.takeBack(),
  history: () => drawer(!page.hasAttribute("data-past")),
  "history-close": () => drawer(false),
  storing: () => {
    if (!chat.isEmpty) return say(chat.constructor.stores ? "This chat is stored. Delete it if you do not want that." : "This chat lives in this page only. A new chat can be stored.");
    if (!state.terms) return say("This server stores no chats.");
    if (!state.agreed) return openConsent();
    begin(!chat.constructor.stores, chat.settings);
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) return does[button.dataset.do]?.();
  const idea = event.target.closest("[data-idea]");
  if (idea) return composer.fill(idea.dataset.idea);
  const act = event.target.closest("[data-act]");
  if (!act) return;
  if (act.dataset.act === "rename") { $("[data-rename]").elements.title.value = chat.title; return open("rename"); }
  if (act.dataset.act === "remove") {
    $("#remove [data-what]").textContent = `“${chat.title}” and all its branches are deleted for ever.`;
    return open("remove");
  }
  const turn = chat.tree.get(Number(act.closest("[data-turn]").dataset.turn));
  const step = chat.tree.step(turn);
  const acts = {
    copy: () => copy(turn, act), edit: () => edit(step), again: () => again(step), earlier: () => show(step, -1), later: () => show(step, 1),
    up: () => reactions.thumb(chat, turn, true), down: () => reactions.thumb(chat, turn, false), improve: () => reactions.improve(chat, turn),
    choose: () => choose(step, act.dataset.verdict),
  };
  acts[act.dataset.act]();
});

const answerOf = (name) => () => { const step = lastStep(); if (step?.[0].role === "assistant" && !isBusy()) views.get(key(step)).element.querySelector(`.acts [data-act="${name}"]`)?.click(); };
bind("Chat", [
  { keys: ["Enter"], what: "send (Shift Enter: a new line)", run: () => composer.text.focus(), when: () => false, always: true },
  { keys: ["Escape"], what: "stop the answer, or leave the text, so that keys work", typing: true, run: () => { if (page.hasAttribute("data-past")) drawer(false); else if (chat.writing.length) does.stop(); else document.activeElement.blur(); } },
  { keys: ["w", "/"], what: "write a message", run: () => composer.text.focus() },
  { keys: ["n"], what: "new chat", run: () => location.assign(`${root}/`) },
  { keys: ["s"], what: "settings", run: does.settings },
  { keys: ["d"], what: "store this chat, or not", run: does.storing },
  { keys: ["v"], what: "side by side, or not", when: () => state.models.length > 1, run: does.compare },
  { keys: ["?"], what: "all keys", run: does.keys },
]);
bind("The last answer", [
  { keys: ["c"], what: "copy", run: answerOf("copy") },
  { keys: ["r"], what: "answer again", run: answerOf("again") },
  { keys: ["+"], what: "good answer", run: answerOf("up") },
  { keys: ["-"], what: "bad answer", run: answerOf("down") },
  { keys: ["i"], what: "improve", run: answerOf("improve") },
  { keys: ["e"], what: "change your last message", run: () => { const step = chat.steps.filter((one) => one[0].role === "user").at(-1); if (step && !isBusy()) edit(step); } },
  { keys: ["ArrowLeft"], what: "earlier version", run: () => { const step = lastStep(); if (step && !isBusy()) show(step, -1); } },
  { keys: ["ArrowRight"], what: "later version", run: () => { const step = lastStep(); if (step && !isBusy()) show(step, 1); } },
]);
bind("Side by side", [{ keys: ["1", "2", "3", "4"], what: "A is better, tie, both bad, B is better", run: (pressed) => choose(lastStep()?.length === 2 ? lastStep() : null, VERDICTS[pressed]) }]);

addEventListener("scroll", jump, { passive: true });
addEventListener("popstate", () => { if (location.pathname !== `${root}/${chat.ref ? `chat/${chat.ref}` : ""}`) location.reload(); });
addEventListener("beforeunload", (event) => { if (!chat.constructor.stores && !chat.isEmpty) event.preventDefault(); });

if (state.chat) {
  chat = new Stored(state.chat.settings, on, state.chat);
  past.show(chat.ref);
  render();
  toEnd();
} else {
  past.show(null);
  begin(mayStore());
}
if (!anyOpen() && matchMedia("(pointer: fine)").matches) composer.text.focus({ preventScroll: true });
