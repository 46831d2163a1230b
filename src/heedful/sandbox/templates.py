"""Prompt templates: from slots to words, and from words back to slots by the same phrasings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from heedful.sandbox import lexicon
from heedful.sandbox.goals import Goal
from heedful.sandbox.world import World

Slots = dict[str, str]

_NAME = r"[A-Z][a-z]+"
_WORD = r"[a-z]+"
_NOUN = r"(?:an? )?[A-Za-z]+"
# shape of a slot in the text; the name of a slot without its digits says its type
_SHAPES = {
    "who": _NAME, "place": _NAME, "day": _NAME, "subject": _NOUN, "hero": _NOUN, "event": r"the [a-z ]+?",
    "text": r".+", "need": r"(?:for|to) .+", "row": r"[a-z, ]+", "obj": r"(?:an? [a-z]+|some) [a-z]+", "kindof": r"an? [a-z ]+?",
}  # fmt: skip
_GOODS = (*lexicon.FOODS, *lexicon.CLOTHES.values())
REVIEWED = ("inn", "market", "school", "garden", "bread", "soup", "cake", "cheese", "pie", "fish")
_MEMBERS: dict[str, Callable[[World], object]] = {
    "who": lambda world: world.people,
    "place": lambda world: world.places,
    "day": lambda world: lexicon.DAYS,
    "animal": lambda world: lexicon.ANIMALS,
    "food": lambda world: lexicon.FOODS,
    "job": lambda world: lexicon.JOBS,
    "goods": lambda world: _GOODS,
    "ingredient": lambda world: lexicon.INGREDIENTS,
    "dish": lambda world: lexicon.DISHES,
    "spot": lambda world: lexicon.SPOTS,
    "item": lambda world: REVIEWED,
    "colour": lambda world: lexicon.COLOURS,
    "thing": lambda world: (*lexicon.THINGS, *lexicon.CLOTHES),
    "event": lambda world: lexicon.EVENTS,
    "kind": lambda world: lexicon.KINDS,
    "n": lambda world: lexicon.NUMBERS,
}


@dataclass(frozen=True)
class Template:
    """One kind of task. `draw` makes slots, `goal` says what a good answer does, `answer` writes one (a list of sentences;
    size 0 brief, 1 plain, 2 detailed), `value` is the answer in one word where there is one.
    `limit`: words from which on an answer rambles. `loose`: new beings that an answer may bring in. `closed`: only the
    prompt's own facts may be used. `constraints`: the kinds of explicit constraint that fit."""

    name: str
    use_case: str
    weight: float
    phrasings: tuple[str, ...]
    draw: Callable[[World, Random], Slots]
    goal: Callable[[World, Slots], Goal]
    answer: Callable[[World, Slots, Random, int], list[str]]
    value: Callable[[World, Slots], str] | None = None
    limit: int = 24
    loose: int = 0
    closed: bool = False
    asks: bool = False  # whether an answer may ask something back
    constraints: tuple[str, ...] = ()
    unsafe: bool = False
    accepts: Callable[[World, Slots], bool] = field(default=lambda world, slots: True)

    def phrase(self, slots: Slots, rng: Random) -> str:
        return rng.choice(self.phrasings).format(**slots)

    def parse(self, world: World, text: str) -> Slots | None:
        """The slots of a body that one of the phrasings could have made, else None."""
        for pattern in _patterns(self.phrasings):
            match = pattern.fullmatch(text)
            if match is None:
                continue
            slots = match.groupdict()
            if all(_fits(world, name, value) for name, value in slots.items()) and self.accepts(world, slots):
                return slots
        return None


@cache
def _patterns(phrasings: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_pattern(phrasing)) for phrasing in phrasings)


def _pattern(phrasing: str) -> str:
    """The regular expression of a phrasing; a slot that returns has to be the same."""
    seen: set[str] = set()
    pattern = ""
    for part in re.split(r"(\{\w+\})", phrasing):
        if not part.startswith("{"):
            pattern += re.escape(part)
            continue
        name = part[1:-1]
        pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{_SHAPES.get(type_of(name), _WORD)})"
        seen.add(name)
    return pattern


def type_of(slot: str) -> str:
    return slot.rstrip("0123456789")


def _fits(world: World, slot: str, value: str) -> bool:
    kind = type_of(slot)
    if kind in ("subject", "hero"):
        bare = value.split(" ", 1)[-1].lower()
        known = world.classes.get(bare)
        return known is not None and (" " not in value or value == lexicon.a(bare))
    members = _MEMBERS.get(kind)
    return members is None or value in members(world)  # type: ignore[operator]
