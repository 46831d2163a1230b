"""What happened: one person, one deed, one object. Written in several ways and read back from the text.

Here and in all texts of the sandbox no line begins with a name or a bare noun: so a word is the same token wherever it
stands, and a small model can learn to carry it from a question to the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from heedful.sandbox.lexicon import ANIMALS, COLOURS, DAYS, FOODS, OWNED, VERBS, a, bare
from heedful.sandbox.world import World

FILLERS = ("It was a cold day.", "The sun was warm.", "Many people were there.", "The wind was strong.")
PAST_TIMES = ("Yesterday", "Last week")
AFTER = ("{They} was very happy.", "{They} told all the people.")

_BASE_OF = {past: base for base, (_, past) in VERBS.items()}
_BASE_OF_PRESENT = {present: base for base, (present, _) in VERBS.items()}
_DEED = r"(?P<who>[A-Z][a-z]+) (?P<verb>[a-z]+) (?P<thing>(?:an? [a-z]+|some) [a-z]+)\."
_TOLD = re.compile(rf"(?:On [A-Z][a-z]+|{'|'.join(PAST_TIMES)}) {_DEED}")
_NOW = re.compile(rf"Today {_DEED}")


@dataclass(frozen=True)
class Event:
    """who: a name; verb: base form; thing: "a red hat" or "some bread"."""

    who: str
    verb: str
    thing: str

    @property
    def past(self) -> str:
        return VERBS[self.verb][1]

    @property
    def head(self) -> str:
        """The noun of the object."""
        return bare(self.thing)

    def told(self, time: str = "Yesterday") -> str:
        """In the past tense: Yesterday Mira bought a red hat."""
        return f"{time} {self.who} {self.past} {self.thing}."

    def told_somehow(self, rng: Random) -> str:
        """In the past tense, with one time or another."""
        return self.told(rng.choice((*PAST_TIMES, f"On {rng.choice(DAYS)}")))

    def now(self) -> str:
        return f"Today {self.who} {VERBS[self.verb][0]} {self.thing}."

    def then(self) -> str:
        return f"Tomorrow {self.who} will {self.verb} {self.thing}."

    def asked(self) -> str:
        return f"Does {self.who} {self.verb} {self.thing} today?"


def draw(world: World, rng: Random) -> Event:
    verb, pick = rng.choice(tuple(VERBS)), rng.random()
    if verb in ("find", "lose", "wash") and pick < 0.4:
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(tuple(ANIMALS))}")
    elif verb != "wash" and pick < 0.3:
        thing = f"some {rng.choice(FOODS)}"
    else:
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(OWNED)}")
    return Event(rng.choice(world.person_names), verb, thing)


def several(world: World, rng: Random, count: int) -> list[Event]:
    """Events with different people, deeds and objects."""
    events: list[Event] = []
    while len(events) < count:
        new = draw(world, rng)
        if not any({new.who, new.verb, new.head} & {old.who, old.verb, old.head} for old in events):
            events.append(new)
    return events


def read_told(world: World, sentence: str) -> Event | None:
    """A sentence in the past tense, as `told_somehow` writes it."""
    return _read(world, _TOLD.fullmatch(sentence), _BASE_OF)


def read_now(world: World, sentence: str) -> Event | None:
    """A sentence in the present tense, as `now` writes it."""
    return _read(world, _NOW.fullmatch(sentence), _BASE_OF_PRESENT)


def _read(world: World, match: re.Match[str] | None, base_of: dict[str, str]) -> Event | None:
    if not match or match["who"] not in world.people or match["verb"] not in base_of:
        return None
    return Event(match["who"], base_of[match["verb"]], match["thing"])


def read_passage(world: World, text: str) -> list[Event]:
    """The events of a passage, in order; none where it says anything but events and the usual colour around them."""
    told = []
    for sentence in re.findall(r"[^.!?]+[.!?]|[^.!?]+$", text):
        sentence = sentence.strip()
        event = read_told(world, sentence)
        if event is not None:
            told.append(event)
        elif sentence not in FILLERS and re.sub("^(She|He) ", "{They} ", sentence) not in AFTER:
            return []
    return told
