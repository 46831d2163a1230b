// Requests to the playground's API, and answers that come line by line.
import { headers, root, signIn } from "../site.js";

const AWAY = "No connection to the server. Try again.";
const WAITS = [500, 1000, 2000, 4000, 8000]; // ms before an answer in progress is asked for again

/** A refusal of the server, with its words for the reader. */
export class Refusal extends Error {
  constructor(words, status, code) {
    super(words);
    Object.assign(this, { status, code });
  }
}

/** The answer of the API as JSON, or null if it has none. Throws a Refusal. */
export async function call(method, path, body) {
  const response = await sent(method, path, body);
  return response.status === 204 ? null : response.json();
}

async function sent(method, path, body, signal) {
  let response;
  try {
    response = await fetch(`${root}${path}`, { method, headers: headers(), signal, ...(body && { body: JSON.stringify(body) }) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(AWAY, 0);
  }
  if (response.ok) return response;
  const { error, code } = await response.json().catch(() => ({}));
  if (response.status === 401) throw new Refusal(code === "other_person" ? "Another account is signed in on this browser. Load this page again." : "You are signed out.", 401, code ?? "signed-out");
  throw new Refusal(error ?? `The server answers ${response.status}.`, response.status, code);
}

export { signIn };

/** The lines of a response, each as JSON, as they come. */
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (waiting + value).split("\n");
      waiting = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The lines of the answer to a request. */
export async function* posted(path, body, signal) {
  yield* lines(await sent("POST", path, body, signal));
}

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** Follows an answer that the server writes, from a place on, until it ends. A lost connection is found again.
    `more(text)` gets what comes; returns the turn at its end, null if it is gone. */
export async function followed(ref, turn, start, more, lost) {
  for (let at = start, tries = 0; ; tries += 1) {
    try {
      for await (const line of lines(await sent("GET", `/api/chats/${ref}/turns/${turn}/text?start=${at}`))) {
        if (line.turn && line.turn.state !== "writing") return line.turn;
        if (!("text" in line)) continue;
        at = line.at;
        tries = 0;
        lost(false);
        more(line.text);
      }
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) return null;
      if (error instanceof Refusal && error.status === 401) throw error;
      lost(true); // the network: what the server writes meanwhile is not lost
    }
    await pause(WAITS[Math.min(tries, WAITS.length - 1)]);
  }
}
