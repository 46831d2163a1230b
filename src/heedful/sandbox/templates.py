"""Templates of tasks: they turn slots into prompts, and read the slots back from a prompt by the same phrasings."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from heedful.sandbox import lexicon, phrasebook
from heedful.sandbox.goals import Goal
from heedful.sandbox.world import World

Slots = dict[str, str]
Draw = Callable[[World, Random], Slots]
MakeGoal = Callable[[World, Slots], Goal]
MakeAnswers = Callable[[World, Slots, Random, int], list[str]]


def _anything(world: World, slots: Slots) -> bool:
    return True


@dataclass(frozen=True)
class Template:
    """One kind of task. The settings from `use_case` on come from `language/tasks.toml`."""

    name: str
    draw: Draw
    """Draws slots."""
    goal: MakeGoal
    """The goal of a good answer."""
    answer: MakeAnswers
    """Writes a good answer as sentences. Its last argument is the size: 0 brief, 1 plain, 2 detailed."""
    value: Callable[[World, Slots], str] | None
    """The answer in one word, for tasks that have one."""
    accepts: Callable[[World, Slots], bool]
    """Refuses slots that do not go together."""
    phrasings: tuple[str, ...]
    use_case: str
    weight: float = 1
    """Relative frequency within the use case."""
    limit: int = 24
    """An answer of more words than this rambles."""
    loose: int = 0
    """How many beings a good answer may add to those of the prompt."""
    closed: bool = False
    """An answer may use only what the prompt says."""
    asks: bool = False
    """An answer may ask back."""
    unsafe: bool = False
    """A good answer declines."""
    constraints: tuple[str, ...] = ()
    """The kinds of constraints that fit."""
    carrier: str = "Close by there was a {word}."
    """A sentence for a word that an answer has to use."""

    def parse(self, world: World, text: str) -> Slots | None:
        """The slots of a prompt's body that one of the phrasings could have made, else None."""
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


def said(task: str) -> dict[str, Any]:
    """What `language/tasks.toml` says of a task: the settings of its template and the sentences of its answers."""
    table: dict[str, Any] = phrasebook.read("tasks")[task]
    return table


def template(
    name: str,
    draw: Draw,
    goal: MakeGoal,
    answer: MakeAnswers,
    value: Callable[[World, Slots], str] | None = None,
    accepts: Callable[[World, Slots], bool] = _anything,
) -> Template:
    """The template of the task `name`: its logic from here, its settings from `language/tasks.toml`."""
    table = said(name)
    settings = {key: table[key] for key in Template.__dataclass_fields__ if key in table}
    if "frames" in table:
        frames = phrasebook.read("tasks")["frames"][table["frames"]]
        settings["phrasings"] = tuple(frame.replace("{part}", part) for frame in frames for part in table["parts"])
    return Template(name, draw, goal, answer, value, accepts, **settings)


# The shape of a slot in the text. The type of a slot is its name without the digits at the end.
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
    """The first words of the phrasings, "" for one that begins with a slot. A quick test before the patterns."""
    first = [phrasing.split(" ", 1)[0] for phrasing in phrasings]
    return frozenset("" if "{" in word else word for word in first)


def _pattern(phrasing: str) -> str:
    """The regular expression of a phrasing. A slot that comes twice has to have the same value."""
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
    """Whether a slot of this name can have the value."""
    kind = _type(slot)
    if kind in ("who", "place"):
        return value in (world.people if kind == "who" else world.places)
    if kind in ("subject", "hero"):
        bare = value.split(" ", 1)[-1].lower()
        return bare in world.classes and (" " not in value or value == lexicon.a(bare))
    return kind not in _MEMBERS or value in _MEMBERS[kind]
