"""Other people's and models' words on a page: text only, whatever they hold.

Everything is escaped; what could hide or disturb (controls, overrides of direction, characters of no width, lone
surrogates) stands as a small sign with its name, so that it is seen and has no effect. Line breaks are kept, code
between fences is set as code, and every paragraph takes its own direction (CSS `unicode-bidi: plaintext`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

from markupsafe import Markup, escape

MOST_SHOWN = 200_000  # characters; the whole of a longer text is one link away, as plain text
MOST_SIGNS = 500  # beyond them a plain ◌, so that a text of nothing but signs does not choke the browser

SHORT_NAMES = {
    0x00: "NUL", 0x07: "BEL", 0x08: "BS", 0x0B: "VT", 0x0C: "FF", 0x1B: "ESC", 0x7F: "DEL", 0xAD: "SHY",
    0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x2028: "LS", 0x2029: "PS", 0x2060: "WJ", 0xFEFF: "BOM",
    0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI",
}  # fmt: skip
HARMLESS = frozenset((0x200E, 0x200F, 0x061C))  # marks of direction: local, and common in honest right-to-left text
JOINERS = frozenset((0x200C, 0x200D))

# What may need a sign: controls, formats, letters that look like nothing. Selectors of the second plane and tags can
# carry hidden text; the first sixteen selectors belong to emoji.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_FENCE = "```"


def words(text: str) -> Markup:
    """The text as HTML for an element of class `words`: no markup of its own survives."""
    text = text[:MOST_SHOWN].replace("\r\n", "\n").replace("\r", "\n")
    signs = _Signs()
    parts, end = [], 0
    for start, after in _blocks(text):
        # The line breaks around a block are kept for copying and comparing, but not shown beside its margins.
        parts.append(signs.mark(text[end:start].removesuffix("\n")))
        parts.append(_break(start > end))
        parts.append(Markup('<span class="code">') + signs.mark(text[start:after]) + Markup("</span>"))
        parts.append(_break(text[after : after + 1] == "\n"))
        end = after + 1
    parts.append(signs.mark(text[end:]))
    return Markup("").join(parts)


def is_cut(text: str) -> bool:
    """Whether `words` shows only the beginning."""
    return len(text) > MOST_SHOWN


def plain(text: str) -> str:
    """The text as it can be sent: lone surrogates, which no encoding holds, become U+FFFD."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Where code between fences begins and ends; what is never closed is no code.

    In one pass over the lines: a pattern would look for the end of every open fence anew, and a text of nothing but
    fences would hold the server up.
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

    def mark(self, text: str) -> Markup:
        parts: list[Markup] = []
        end = 0
        suspects = (found for found in _SUSPECT.finditer(text) if not _honest(text, found.start()))
        for _, run in groupby(enumerate(suspects), key=lambda pair: (pair[1].group(), pair[1].start() - pair[0])):
            if self.count == MOST_SIGNS:
                break
            places = [found.start() for _, found in run]
            parts.append(escape(text[end : places[0]]))
            parts.append(self._sign(text[places[0]], len(places)))
            end = places[-1] + 1
        rest = text[end:]
        parts.append(escape(_SUSPECT.sub("◌", rest) if self.count == MOST_SIGNS else rest))
        return Markup("").join(parts)

    def _sign(self, character: str, times: int) -> Markup:
        self.count += 1
        code = ord(character)
        name = SHORT_NAMES.get(code, f"U+{code:04X}")
        full = f"{unicodedata.name(character, 'control character').lower()}, U+{code:04X}"
        label = name if times == 1 else f"{name} ×{times}"
        return Markup('<span class="sign" title="{}">{}</span>').format(full, label)


def _honest(text: str, place: int) -> bool:
    """Whether a character of the suspects does no harm here: a joiner within a script or an emoji that needs it."""
    code = ord(text[place])
    if code in HARMLESS:
        return True
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if code in JOINERS:
        return before > "\u0590" and after > "\u0590" and not _SUSPECT.match(before) and not _SUSPECT.match(after)
    if 0xE0020 <= code <= 0xE007F:  # tags: only within a flag
        return _flag_before(text, place)
    return False


def _flag_before(text: str, place: int) -> bool:
    start = max(0, place - 8)
    flag = text.rfind("\U0001f3f4", start, place)
    return flag >= 0 and all(0xE0020 <= ord(tag) <= 0xE007F for tag in text[flag + 1 : place])
