// A small preview of Markdown: headings, lists, quotes, code, bold, italic and code in a line. Links stay text. Everything is
// made of elements and text, never of markup.

const make = (tag, ...children) => {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
};

const INLINE = /(`[^`]+`|\*\*[^*]+\*\*|\*[^*\s][^*]*\*|_[^_\s][^_]*_)/;

const inline = (text) => text.split(INLINE).filter(Boolean).map((part) => {
  if (/^`.+`$/s.test(part)) return make("code", part.slice(1, -1));
  if (/^\*\*.+\*\*$/s.test(part)) return make("strong", part.slice(2, -2));
  if (/^([*_]).+\1$/s.test(part)) return make("em", part.slice(1, -1));
  return part;
});

const BLOCKS = [
  [/^(#{1,4})\s+(.*)/, (lines, found) => [make("h3", ...inline(found[2])), 1]],
  [/^```/, (lines) => {
    const end = lines.findIndex((line, place) => place > 0 && /^```\s*$/.test(line));
    const stop = end < 0 ? lines.length : end;
    return [make("pre", make("code", lines.slice(1, stop).join("\n"))), stop + 1];
  }],
  [/^\s*[-*+]\s+/, (lines) => list("ul", lines, /^\s*[-*+]\s+/)],
  [/^\s*\d+[.)]\s+/, (lines) => list("ol", lines, /^\s*\d+[.)]\s+/)],
  [/^>\s?/, (lines) => {
    const count = run(lines, (line) => /^>/.test(line));
    return [make("blockquote", ...inline(lines.slice(0, count).map((line) => line.replace(/^>\s?/, "")).join("\n"))), count];
  }],
];

const run = (lines, holds) => {
  const end = lines.findIndex((line) => !holds(line));
  return end < 0 ? lines.length : end;
};

const list = (tag, lines, mark) => {
  const count = run(lines, (line) => mark.test(line));
  return [make(tag, ...lines.slice(0, count).map((line) => make("li", ...inline(line.replace(mark, ""))))), count];
};

export function preview(text) {
  const shown = document.createElement("div");
  shown.className = "prose";
  shown.dir = "auto";
  let lines = text.split("\n");
  while (lines.length) {
    const block = BLOCKS.find(([mark]) => mark.test(lines[0]));
    if (block) {
      const [element, used] = block[1](lines, block[0].exec(lines[0]));
      shown.append(element);
      lines = lines.slice(used);
    } else if (!lines[0].trim()) lines = lines.slice(1);
    else {
      const count = Math.max(1, run(lines, (line) => line.trim() && !BLOCKS.some(([mark]) => mark.test(line))));
      shown.append(make("p", ...inline(lines.slice(0, count).join("\n"))));
      lines = lines.slice(count);
    }
  }
  return shown;
}
