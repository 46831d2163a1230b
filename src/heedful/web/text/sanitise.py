"""Texts of models and users as HTML: escaped, and without hidden effects.

Suspicious characters (controls, overrides of direction, characters without width, lone surrogates) become small signs
with their names. Line breaks stay. Fenced code is set as code. Every paragraph takes its own direction (CSS
`unicode-bidi: plaintext`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

import markupsafe
from markupsafe import Markup

from heedful.data.text import SUSPICIOUS, suspicious

MOST_SHOWN = 200_000  # characters. The whole of a longer text is one link away, as plain text
MOST_SIGNS = 500  # beyond them a plain ◌, so that a text of nothing but signs does not choke the browser

SHORT_NAMES = {
    0x00: "NUL", 0x07: "BEL", 0x08: "BS", 0x0B: "VT", 0x0C: "FF", 0x1B: "ESC", 0x7F: "DEL", 0xAD: "SHY",
    0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x2028: "LS", 0x2029: "PS", 0x2060: "WJ", 0xFEFF: "BOM",
    0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
}  # fmt: skip
_FENCE = "```"
_TAG = re.compile(r"(<[^<>]*>)")


def as_html(text: str) -> Markup:
    """The text as HTML for an element of class `words`: no markup of its own survives."""
    text = text[:MOST_SHOWN].replace("\r\n", "\n").replace("\r", "\n")
    signs = _Signs()
    parts, end = [], 0
    for start, after in _blocks(text):
        # The line breaks around a block are kept for copying and comparing, but not shown next to its margins.
        parts.append(signs.mark(text[end:start].removesuffix("\n")))
        parts.append(_break(start > end))
        parts.append(Markup('<span class="code">') + signs.mark(text[start:after]) + Markup("</span>"))
        parts.append(_break(text[after : after + 1] == "\n"))
        end = after + 1
    parts.append(signs.mark(text[end:]))
    return Markup("").join(parts)


def with_signs(html: Markup) -> Markup:
    """HTML with a sign for every suspicious character between its tags."""
    signs = _Signs()
    parts = _TAG.split(html)  # texts and tags take turns
    return Markup("").join(
        Markup(part) if place % 2 else signs.mark(Markup(part), escaped=True) for place, part in enumerate(parts)
    )


def is_cut(text: str) -> bool:
    """Whether `as_html` shows only the beginning."""
    return len(text) > MOST_SHOWN


def plain(text: str) -> str:
    """The text as it can be sent: lone surrogates, which no encoding holds, become U+FFFD."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where fenced code begins and ends. A fence that is never closed opens no code.

    This is one pass over the lines. A regular expression would search for the end of every open fence again, and a text
    full of fences would block the server.
    """
    opened, inside, place = None, 0, 0
    for line in text.split("\n"):
        end = place + len(line)
        if line.startswith(_FENCE):
            after = line.removeprefix(_FENCE)
            if opened is None and "`" not in after:
                opened, inside = place, end + 1
            elif opened is not None and place > inside and not after.strip(" \t"):
                yield opened, end
                opened = None
        place = end + 1


def _break(wanted: bool) -> Markup:
    return Markup("<span hidden>\n</span>") if wanted else Markup("")


class _Signs:
    """Escapes text and puts signs in, counting them."""

    def __init__(self) -> None:
        self.count = 0

    def mark(self, text: str, *, escaped: bool = False) -> Markup:
        """`escaped`: the text is HTML without tags already."""
        escape = Markup if escaped else markupsafe.escape
        parts: list[Markup] = []
        end = 0
        # A run of one character gets one sign. Within a run, position minus index stays the same.
        for _, run in groupby(enumerate(suspicious(text)), key=lambda pair: (text[pair[1]], pair[1] - pair[0])):
            if self.count == MOST_SIGNS:
                break
            places = [place for _, place in run]
            parts.append(escape(text[end : places[0]]))
            parts.append(self._sign(text[places[0]], len(places)))
            end = places[-1] + 1
        rest = text[end:]
        parts.append(escape(SUSPICIOUS.sub("◌", rest) if self.count == MOST_SIGNS else rest))
        return Markup("").join(parts)

    def _sign(self, character: str, times: int) -> Markup:
        self.count += 1
        code = ord(character)
        name = SHORT_NAMES.get(code, f"U+{code:04X}")
        full = f"{unicodedata.name(character, 'control character').lower()}, U+{code:04X}"
        label = name if times == 1 else f"{name} ×{times}"
        return Markup('<span class="sign" title="{}">{}</span>').format(full, label)
