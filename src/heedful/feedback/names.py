"""Names of people: what is a name, and which names look alike.

Two names look alike if they share an outline: letters of other scripts become the Latin ones that they look like,
case and invisible characters do not count, and 1, I and l are one, as are 0 and O. The letters that look alike are
those of Unicode (UTS #39), from the package confusable_homoglyphs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from heedful.config import UserError
from heedful.data.text import suspicious
from heedful.feedback.columns import printable

LONGEST = 100  # characters
DELETED = "deleted-"  # begins the name of a row whose person is deleted
MODEL = "(model)"  # ends the name of an account with which a model labels, wherever the name is shown
_STROKES = str.maketrans({"I": "l", "1": "l", "|": "l", "0": "o", "O": "o"})


def checked(name: str, *, of_model: bool = False) -> str:
    """The name as it is stored. UserError if it is not a name. The name of a model ends with its mark, others never."""
    name = " ".join(printable(name, LONGEST + 1).split())
    if not 0 < len(name) <= LONGEST:
        raise UserError(f"name: give one of 1 to {LONGEST} characters")
    hidden = [name[place] for place in suspicious(name)] or [each for each in name if each in "\u200e\u200f\u061c"]
    if hidden:
        raise UserError(f"name: holds a character that people cannot see (U+{ord(hidden[0]):04X}). Leave it out")
    if not any(unicodedata.category(each)[0] in "LN" for each in name):
        raise UserError(f"{name}: a name has a letter or a digit. Choose another")
    if "/" in name:
        raise UserError(f"{name}: a slash separates an account from the users of its programs. Leave it out")
    if re.fullmatch(rf"{DELETED}[0-9]+", name.casefold()):
        raise UserError(f"{name}: heedful gives such names to deleted accounts. Choose another")
    if any(each.endswith(MODEL) for each in outlines(name)) and not of_model:
        raise UserError(f"{name}: {MODEL} marks the accounts of models. Choose another")
    return name


def look_alike(name: str, others: Iterable[str]) -> bool:
    """Whether a name looks like one of the others."""
    mine = outlines(name)
    return any(not mine.isdisjoint(outlines(other)) for other in others)


def outlines(name: str) -> frozenset[str]:
    """The outlines of a name: as it is written, in small letters, and with strokes and circles alike."""
    name = unicodedata.normalize("NFKC", name)
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    visible = " ".join(visible.split())
    latin = _latin(visible)
    alike = latin.translate(_STROKES)
    return frozenset(_latin(each.casefold()) for each in (visible, latin, alike))


def _latin(text: str) -> str:
    return text if text.isascii() else "".join(each if each.isascii() else _like(each) for each in text)


@cache
def _like(letter: str) -> str:
    """The Latin letter or digit that a letter looks like, else the letter."""
    from confusable_homoglyphs.confusables import confusables_data  # 0.1 s, and few names need it

    known = [other["c"] for other in confusables_data.get(letter, ())]
    return next((other for other in known if other.isascii() and other.isalnum() and len(other) == 1), letter)
