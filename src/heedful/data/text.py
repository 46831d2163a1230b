"""Make text from people and models safe to show: suspicious characters, field names and numbers of rows as words."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Control characters except tab and newline, format characters, invisible letters, halves of surrogate pairs. Tags and
# variation selectors of the second plane can carry hidden text. The first 16 selectors belong to emoji.
SUSPICIOUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")  # they act locally, and are common in right-to-left text
_JOINERS = frozenset("\u200c\u200d")
_BREAK = "\u200b"  # between words of scripts that write no spaces: Thai, Lao, Burmese, Khmer
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
_FLAG, _TAGS = "\U0001f3f4", range(0xE0020, 0xE0080)
_LONGEST_FLAG = 8  # characters: a black flag and its tags


def rows_told(count: int, kind: str = "") -> str:
    """A number of rows in words: "1 row", "1,200 rows", "1 prompt row"."""
    return counted(count, " ".join(filter(None, (kind, "rows"))))


def counted(count: int, names: str, verb: str = "", *, of: int | None = None) -> str:
    """A number of things: counted(1, "comparisons") is "1 comparison", counted(1200, "pairs") "1,200 pairs".

    `of`: how many there are in all. The verb follows the count: counted(1, "rows", "have", of=5) is "1 of 5 rows has".
    """
    if (count if of is None else of) == 1:
        names = (
            f"{names[:-3]}y" if names.endswith("ies") else names.removesuffix("es" if names.endswith("sses") else "s")
        )
    if count == 1 and verb:
        verb = {"have": "has", "are": "is", "do": "does"}.get(verb, f"{verb}s")
    return " ".join(filter(None, (f"{count:,}", "" if of is None else f"of {of:,}", names, verb)))


def suspicious(text: str) -> Iterator[int]:
    """Positions of characters that can hide, reorder or disturb text. A page must show them as a sign.

    Excludes marks of direction, the tags of a flag, and joiners inside a script or an emoji that needs them, and breaks
    between words of Thai, Lao, Burmese and Khmer.
    """
    return (found.start() for found in SUSPICIOUS.finditer(text) if not _is_harmless(text, found.start()))


def visible(text: str) -> str:
    """The text with each suspicious character replaced by its code point: `[U+202E]`. Lone surrogates become U+FFFD."""
    parts, end = [], 0
    for place in suspicious(text):
        code = ord(text[place])
        parts += [text[end:place], "\ufffd" if 0xD800 <= code <= 0xDFFF else f"[U+{code:04X}]"]
        end = place + 1
    return "".join(parts) + text[end:]


def as_words(name: str) -> str:
    """The name of a field or metric as words: `fails_instruction` becomes `fails instruction`, `a/b` becomes `a: b`."""
    return name.replace("_", " ").replace("/", ": ")


def _is_harmless(text: str, place: int) -> bool:
    character = text[place]
    if character in _DIRECTION_MARKS:
        return True
    if character == _BREAK:
        return all(_SPACELESS.match(text[beside : beside + 1]) for beside in (place - 1, place + 1))
    if character in _JOINERS:
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        return before > "\u0590" and after > "\u0590" and not SUSPICIOUS.match(before) and not SUSPICIOUS.match(after)
    return ord(character) in _TAGS and _is_in_flag(text, place)


def _is_in_flag(text: str, place: int) -> bool:
    """Whether only tags lie between the position and a black flag before it."""
    start = text.rfind(_FLAG, max(0, place - _LONGEST_FLAG), place)
    return start >= 0 and all(ord(tag) in _TAGS for tag in text[start + 1 : place])
