"""Events: one person, one deed, one object, one place. Code writes them in several ways and reads them back from text.

No line of any text of the sandbox begins with a name or a bare noun. So a word is always the same token, and a small
model can learn to carry it from a question to the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from heedful.sandbox import phrasebook
from heedful.sandbox.lexicon import ANIMALS, AT_SPOTS, COLOURS, DAYS, FOODS, OWNED, SPOTS, VERBS, a, bare, capital
from heedful.sandbox.world import World

_PASSAGE = phrasebook.read("sentences")["passage"]
FILLERS: tuple[str, ...] = _PASSAGE["fillers"]
AFTER: tuple[str, ...] = _PASSAGE["after"]
PAST_TIMES: tuple[str, ...] = _PASSAGE["past_times"]

_BASE_OF = {past: base for base, (_, past) in VERBS.items()}
_BASE_OF_PRESENT = {present: base for base, (present, _) in VERBS.items()}
_WHO, _WHERE = r"(?P<who>[A-Z][a-z]+)", r"(?:at|near) the [a-z]+|in [A-Z][a-z]+"
_OBJECT = r"(?P<thing>(?:an? [a-z]+|some) [a-z]+)"
_TOLD = (
    re.compile(rf"(?:On [A-Z][a-z]+|{'|'.join(PAST_TIMES)}) {_WHO} (?P<verb>[a-z]+) {_OBJECT} (?P<where>{_WHERE})\."),
    re.compile(rf"(?P<where>(?:At|Near) the [a-z]+|In [A-Z][a-z]+) {_WHO} (?P<verb>[a-z]+) {_OBJECT}\."),
)
_NOW = re.compile(rf"Today {_WHO} (?P<verb>[a-z]+) {_OBJECT} (?P<where>{_WHERE})\.")


@dataclass(frozen=True)
class StoryEvent:
    """`who`: a name. `verb`: base form. `thing`: "a red hat", "some bread". `where`: "at the market", "in Dorvale"."""

    who: str
    verb: str
    thing: str
    where: str

    @property
    def past(self) -> str:
        return VERBS[self.verb][1]

    @property
    def head(self) -> str:
        """The noun of the object."""
        return bare(self.thing)

    @property
    def spot(self) -> str:
        """The last word of the place, with its capital if it has one."""
        return self.where.rsplit(" ", 1)[1]

    def told(self, time: str = "Yesterday") -> str:
        """The event in the past tense: Yesterday Mira bought a red hat at the market."""
        return f"{time} {self.who} {self.past} {self.thing} {self.where}."

    def told_somehow(self, rng: Random) -> str:
        """The event in the past tense, with a random time, or with the place first."""
        form = rng.randrange(4)
        if form == 0:
            return f"{capital(self.where)} {self.who} {self.past} {self.thing}."
        return self.told(f"On {rng.choice(DAYS)}" if form == 1 else rng.choice(PAST_TIMES))

    def now(self) -> str:
        """The event in the present tense."""
        return f"Today {self.who} {VERBS[self.verb][0]} {self.thing} {self.where}."

    def then(self) -> str:
        """The event in the future."""
        return f"Tomorrow {self.who} will {self.verb} {self.thing} {self.where}."

    def denied(self) -> str:
        """The event with a "not"."""
        return f"Today {self.who} does not {self.verb} {self.thing} {self.where}."

    def asked(self) -> str:
        """The event as a question."""
        return f"Does {self.who} {self.verb} {self.thing} {self.where} today?"


def draw(world: World, rng: Random) -> StoryEvent:
    """A random event."""
    verb, pick = rng.choice(tuple(VERBS)), rng.random()
    if verb == "see" or (verb in ("find", "lose", "wash") and pick < 0.4):
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(tuple(ANIMALS))}")
    elif verb not in ("paint", "wash") and pick < 0.3:
        thing = f"some {rng.choice(FOODS)}"
    else:
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(OWNED)}")
    if rng.random() < 0.35:
        where = f"in {rng.choice(world.place_names)}"
    else:
        spot = rng.choice(SPOTS)
        where = f"{'at' if spot in AT_SPOTS and rng.random() < 0.7 else 'near'} the {spot}"
    return StoryEvent(rng.choice(world.person_names), verb, thing, where)


def several(world: World, rng: Random, count: int) -> list[StoryEvent]:
    """`count` events that share no person, deed, object or place."""
    events: list[StoryEvent] = []
    while len(events) < count:
        new = draw(world, rng)
        if not any({new.who, new.verb, new.head, new.spot} & {old.who, old.verb, old.head, old.spot} for old in events):
            events.append(new)
    return events


def read_told(world: World, sentence: str) -> StoryEvent | None:
    """The event of a sentence as `told_somehow` writes it, else None."""
    for form in _TOLD:
        match = form.fullmatch(sentence)
        if match and match["verb"] in _BASE_OF and match["who"] in world.people:
            where = match["where"]
            return StoryEvent(match["who"], _BASE_OF[match["verb"]], match["thing"], where[0].lower() + where[1:])
    return None


def read_passage(world: World, text: str) -> list[StoryEvent]:
    """The events of a passage, in order. Empty if any sentence is neither an event nor one of FILLERS or AFTER."""
    told = []
    for sentence in re.findall(r"[^.!?]+[.!?]|[^.!?]+$", text):
        sentence = sentence.strip()
        event = read_told(world, sentence)
        if event is not None:
            told.append(event)
        elif sentence not in FILLERS and re.sub("^(She|He) ", "{They} ", sentence) not in AFTER:
            return []
    return told


def read_now(world: World, sentence: str) -> StoryEvent | None:
    """The event of a sentence as `now` writes it, else None."""
    match = _NOW.fullmatch(sentence)
    if not match or match["who"] not in world.people or match["verb"] not in _BASE_OF_PRESENT:
        return None
    return StoryEvent(match["who"], _BASE_OF_PRESENT[match["verb"]], match["thing"], match["where"])
