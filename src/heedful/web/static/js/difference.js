// What two texts do not share, word by word: Myers' greedy algorithm, which is fast where texts are alike.

const MOST_WORDS = 6000;
const MOST_EDITS = 1500;

const split = (text) => text.match(/\s+|[\p{L}\p{N}'’_-]+|[^\s]/gu) ?? [];

/** Runs of [text, shared] for each side; null where the texts are too long or too different to be compared. */
export function difference(left, right) {
  const a = split(left), b = split(right);
  if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
  const path = shortest(a, b);
  return path && [runs(a, path.left), runs(b, path.right)];
}

function shortest(a, b) {
  const offset = MOST_EDITS + 1;
  const furthest = new Int32Array(2 * offset + 1);
  const trace = [];
  for (let edits = 0; edits <= MOST_EDITS; edits += 1) {
    trace.push(furthest.slice(offset - edits - 1, offset + edits + 2));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && furthest[offset + k - 1] < furthest[offset + k + 1]);
      let x = down ? furthest[offset + k + 1] : furthest[offset + k - 1] + 1;
      let y = x - k;
      while (x < a.length && y < b.length && a[x] === b[y]) { x += 1; y += 1; }
      furthest[offset + k] = x;
      if (x >= a.length && y >= b.length) return walk(trace, a.length, b.length);
    }
  }
  return null;
}

function walk(trace, x, y) {
  const left = new Set(), right = new Set(); // the places that both share
  const share = (start) => {
    while (x > start) {
      x -= 1; y -= 1;
      left.add(x); right.add(y);
    }
  };
  for (let edits = trace.length - 1; edits > 0; edits -= 1) {
    const at = (k) => trace[edits][k + edits + 1];
    const k = x - y;
    const down = k === -edits || (k !== edits && at(k - 1) < at(k + 1));
    const from = down ? at(k + 1) : at(k - 1);
    share(down ? from : from + 1);
    x = from;
    y = from - (down ? k + 1 : k - 1);
  }
  share(0);
  return { left, right };
}

function runs(words, shared) {
  const found = [];
  words.forEach((word, place) => {
    const same = shared.has(place) || !word.trim();
    const last = found.at(-1);
    if (last && last[1] === same) last[0] += word;
    else found.push([word, same]);
  });
  return found;
}
