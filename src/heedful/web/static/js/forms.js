// Forms of pages write through the API. `<form data-api="PATCH" action="ROOT/api/...">` sends its fields as JSON:
//   name="a.b"      nested: {a: {b: ...}}             data-list     an entry of the list of its name
//   data-commas     a list, from a text with commas   data-lines    a list, one entry a line
//   data-percent    a share, from a percentage        data-empty    an empty text is sent, else left out
//   data-optional   an empty list is left out         a box         true or false; with a value: an entry of a list
// `data-api="FILES"` posts the files, and the other fields in the address. A button may override action and data-*.
// What follows: `data-html` (a selector) shows the HTML that the server returns; `data-show` (a template) is filled with
// the answer's fields; `data-preview` (a selector) shows rendered Markdown; `data-then` is the next page, with `{field}` from the answer; else the page is loaded again.
// `data-said` is shown on the next page. An error is shown in the form, and nothing that was typed is lost.

import "./copy.js";
import { headers, root, signIn } from "./site.js";

const SAID = "heedful:said";

const fill = (text, answer) => answer && typeof answer === "object" ? text.replace(/\{(\w+)\}/g, (_, name) => answer[name] ?? "") : text;

const entries = (text, by) => text.split(by).map((part) => part.trim()).filter(Boolean);

/** What a control says; undefined: nothing. */
function value(control) {
  const { dataset, type } = control;
  if ("commas" in dataset) return entries(control.value, ",");
  if ("lines" in dataset) return entries(control.value, "\n");
  if (type === "checkbox") return !control.hasAttribute("value") ? control.checked : control.checked ? [control.value] : [];
  if ("list" in dataset) return [control.value];
  if (control.value.trim() === "" && !("empty" in dataset)) return undefined;
  return "percent" in dataset ? Number(control.value) / 100 : control.value;
}

function put(body, name, given) {
  const path = name.split(".");
  const last = path.pop();
  let place = body;
  for (const part of path) place = place[part] ??= {};
  place[last] = Array.isArray(given) && Array.isArray(place[last]) ? [...place[last], ...given] : given;
}

/** The fields of a form as JSON. */
export function fields(form, submitter) {
  const body = {};
  for (const control of form.elements) {
    const { name, type, dataset } = control;
    if (!name || control.disabled || type === "submit" || type === "file" || "file" in dataset || (type === "radio" && !control.checked)) continue;
    const given = value(control);
    if (given !== undefined && !("optional" in dataset && !given.length)) put(body, name, given);
  }
  if (submitter?.name) put(body, submitter.name, submitter.value);
  return body;
}

/** The fields of a form in an address. A list comes once for each entry. */
const inAddress = (body) => new URLSearchParams(Object.entries(body).flatMap(([name, given]) => (Array.isArray(given) ? given.filter(Boolean).map((one) => [name, one]) : [[name, given]])));

/** The files of a form, and what is pasted in place of a file. */
function parts(form) {
  const found = new FormData();
  for (const input of form.querySelectorAll("input[type=file]")) if (input.files[0]) found.append(input.name, input.files[0]);
  for (const input of form.querySelectorAll("textarea[data-file]")) if (input.value.trim()) found.append(input.name, input.value);
  return found;
}

/** What the server makes of a form with files, as HTML, or its error. Nothing is stored. */
export async function previewed(form, address) {
  try {
    const { "Content-Type": json, ...others } = headers("text/html");
    const response = await fetch(`${address}?${inAddress(fields(form))}`, { method: "POST", headers: others, body: parts(form) });
    const answer = await response.text();
    if (response.ok) return { html: answer };
    return { error: response.headers.get("content-type")?.includes("json") ? JSON.parse(answer).error : answer };
  } catch {
    return { error: "No connection to the server. Try again." };
  }
}

function request(form, submitter) {
  const method = submitter?.dataset.api ?? form.dataset.api;
  const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action");
  const html = submitter?.dataset.html ?? form.dataset.html;
  const { "Content-Type": json, ...others } = headers(html ? "text/html" : undefined);
  const body = fields(form, submitter);
  if (method !== "FILES") return [address, { method, headers: { ...others, "Content-Type": json }, body: JSON.stringify(body) }];
  return [`${address}?${inAddress(body)}`, { method: "POST", headers: others, body: parts(form) }];
}

function say(form, words, link) {
  let line = form.querySelector("[data-problem]");
  if (!line && !words) return;
  if (!line) {
    line = document.createElement("p");
    line.className = "notice urgent";
    line.dataset.problem = "";
    line.setAttribute("role", "alert");
    const last = [...form.querySelectorAll(":scope > .actions, :scope > p:has(> button)")].at(-1);
    form.insertBefore(line, last ?? null);
  }
  line.hidden = !words;
  line.textContent = words;
  if (!link) return;
  const anchor = document.createElement("a");
  [anchor.href, anchor.textContent] = link;
  line.append(" ", anchor);
}

/** Puts a copy of a template in place, its `data-field` elements filled; a list makes an entry for each. */
function show(template, answer) {
  const copy = template.content.cloneNode(true);
  for (const element of copy.querySelectorAll("[data-field]")) {
    const found = answer[element.dataset.field];
    if (Array.isArray(found)) element.replaceChildren(...found.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    else element.textContent = found;
  }
  for (const element of copy.querySelectorAll("[data-if]")) if (!answer[element.dataset.if]?.length) element.remove();
  const place = document.querySelector(template.dataset.into);
  place.replaceChildren(copy);
  place.scrollIntoView({ block: "nearest" });
}

async function submit(form, submitter) {
  const option = (name) => submitter?.dataset[name] ?? form.dataset[name];
  let response, answer;
  try {
    response = await fetch(...request(form, submitter));
    answer = await response.text();
    if (answer && response.headers.get("content-type")?.startsWith("application/json")) answer = JSON.parse(answer);
  } catch {
    return say(form, "No connection to the server. Try again.");
  }
  if (response.status === 401 && location.pathname !== `${root}/login`) {
    if (answer.code === "other_person") return say(form, "Another account is signed in on this browser. Load this page again.");
    return say(form, "You are signed out.", [signIn(), "Sign in"]);
  }
  if (!response.ok) return say(form, answer.error?.message ?? answer.error ?? answer);
  say(form, "");
  if (option("html")) {
    const place = document.querySelector(option("html"));
    place.innerHTML = answer; // from our own server, where every text is escaped
    place.scrollIntoView({ block: "nearest" });
  } else if (option("preview")) {
    document.querySelector(option("preview")).innerHTML = answer.html; // with the tags of the server's allow-list only
  } else if (option("show")) {
    show(document.getElementById(option("show")), answer);
    if (form.dataset.reset !== undefined) form.reset();
    form.dispatchEvent(new Event("heedful:done"));
  } else {
    const said = option("said");
    if (said) sessionStorage.setItem(SAID, fill(said, answer));
    const then = option("then");
    if (then) location.assign(fill(then, answer));
    else location.reload();
  }
}

document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (!("api" in form.dataset)) return;
  event.preventDefault();
  if (form.hasAttribute("aria-busy")) return;
  form.setAttribute("aria-busy", "true");
  await submit(form, submitter);
  form.removeAttribute("aria-busy");
});

const said = sessionStorage.getItem(SAID);
const notice = document.querySelector("[data-notice]");
if (said && notice) {
  sessionStorage.removeItem(SAID);
  notice.textContent = said;
  notice.hidden = false;
}
