"""Prompt templates: from slots to words, and from words back to slots by the same phrasings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from random import Random

from heedful.sandbox import lexicon
from heedful.sandbox.goals import Goal
from heedful.sandbox.world import World

Slots = dict[str, str]


def _anything(world: World, slots: Slots) -> bool:
    return True


@dataclass(frozen=True)
class Template:
    """One kind of task.

    `draw` makes slots, `goal` says what a good answer does, `answer` writes one (sentences; size 0 brief, 1 plain,
    2 detailed), `value` is the answer in one word where there is one, `accepts` refuses slots that do not go together.
    `weight`: within the use case. `limit`: words from which on an answer rambles. `loose`: beings that it may add.
    `closed`: an answer may use only what the prompt says. `asks`: an answer may ask back. `constraints`: the kinds that
    fit. `carrier`: a sentence for a word that has to be used.
    """

    name: str
    use_case: str
    weight: float
    phrasings: tuple[str, ...]
    draw: Callable[[World, Random], Slots]
    goal: Callable[[World, Slots], Goal]
    answer: Callable[[World, Slots, Random, int], list[str]]
    value: Callable[[World, Slots], str] | None = None
    accepts: Callable[[World, Slots], bool] = _anything
    limit: int = 24
    loose: int = 0
    closed: bool = False
    asks: bool = False
    unsafe: bool = False
    constraints: tuple[str, ...] = ()
    carrier: str = "Close by there was a {word}."

    def parse(self, world: World, text: str) -> Slots | None:
        """The slots of a body that one of the phrasings could have made, else None."""
        if _openings(self.phrasings).isdisjoint((text.split(" ", 1)[0], "")):
            return None
        for pattern in _patterns(self.phrasings):
            match = pattern.fullmatch(text)
            if match is None:
                continue
            slots = match.groupdict()
            if all(_fits(world, name, value) for name, value in slots.items()) and self.accepts(world, slots):
                return slots
        return None


def lines(block: str) -> tuple[str, ...]:
    """The lines of a text block, without what is empty."""
    return tuple(line.strip() for line in block.strip().splitlines() if line.strip())


# The shape of a slot in the text. The name of a slot, less the digits at its end, is its type.
_NAME, _WORD = r"[A-Z][a-z]+", r"[a-z]+"
_SHAPES = {
    "who": _NAME,
    "place": _NAME,
    "day": _NAME,
    "subject": r"(?:an? )?[A-Za-z]+",
    "hero": r"(?:an? )?[A-Za-z]+",
    "kindof": r"an? [a-z ]+?",
    "event": r"the [a-z ]+?",
    "obj": r"(?:an? [a-z]+|some) [a-z]+",
    "need": r"(?:for|to) .+",
    "row": r"[a-z, ]+",
    "text": r".+",
}
_MEMBERS: dict[str, Collection[str]] = {
    "day": lexicon.DAYS,
    "animal": lexicon.ANIMALS,
    "food": lexicon.FOODS,
    "goods": lexicon.GOODS,
    "ingredient": lexicon.INGREDIENTS,
    "dish": lexicon.DISHES,
    "spot": lexicon.SPOTS,
    "item": lexicon.REVIEWED,
    "colour": lexicon.COLOURS,
    "thing": lexicon.OWNED,
    "event": lexicon.EVENTS,
    "kind": lexicon.KINDS,
    "n": lexicon.NUMBERS,
}


@cache
def _patterns(phrasings: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_pattern(phrasing)) for phrasing in phrasings)


@cache
def _openings(phrasings: tuple[str, ...]) -> frozenset[str]:
    """The first words of the phrasings, "" for one that begins with a slot: a quick look before the patterns."""
    first = [phrasing.split(" ", 1)[0] for phrasing in phrasings]
    return frozenset("" if "{" in word else word for word in first)


def _pattern(phrasing: str) -> str:
    """The regular expression of a phrasing; a slot that returns has to be the same."""
    seen: set[str] = set()
    pattern = ""
    for part in re.split(r"(\{\w+\})", phrasing):
        if not part.startswith("{"):
            pattern += re.escape(part)
            continue
        name = part[1:-1]
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_SHAPES.get(_type(name), _WORD)})"
        seen.add(name)
    return pattern


def _type(slot: str) -> str:
    return slot.rstrip("0123456789")


def _fits(world: World, slot: str, value: str) -> bool:
    kind = _type(slot)
    if kind in ("who", "place"):
        return value in (world.people if kind == "who" else world.places)
    if kind in ("subject", "hero"):
        bare = value.split(" ", 1)[-1].lower()
        return bare in world.classes and (" " not in value or value == lexicon.a(bare))
    return kind not in _MEMBERS or value in _MEMBERS[kind]
