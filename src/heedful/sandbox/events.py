"""What happened: one person, one deed, one object, one place. Written in several ways and read back from the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from heedful.sandbox.genres import THINGS_TO_OWN
from heedful.sandbox.lexicon import ANIMALS, COLOURS, DAYS, FOODS, SPOTS, VERBS, a, capital
from heedful.sandbox.world import World

_BASE_OF = {past: base for base, (_, past) in VERBS.items()}
_WHERE = r"(?:(?:at|near) the [a-z]+|in [A-Z][a-z]+)"
_OBJECT = r"(?:an? [a-z]+ [a-z]+|some [a-z]+)"
_FORMS = (
    re.compile(rf"(?:On (?P<day>[A-Z][a-z]+) )?(?P<who>[A-Z][a-z]+) (?P<past>[a-z]+) (?P<thing>{_OBJECT}) (?P<where>{_WHERE})"),
    re.compile(rf"(?P<where>(?:(?:At|Near) the [a-z]+|In [A-Z][a-z]+)), (?P<who>[A-Z][a-z]+) (?P<past>[a-z]+) (?P<thing>{_OBJECT})"),
)
FILLERS = (
    "It was a cold day.", "The sun was warm.", "Many people were there.", "The wind was strong.", "It was early in the morning.",
    "Nobody said much.", "It was a long day.", "The rain came down all day.", "There was music in the street.", "It was very quiet.",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """who: name; verb: base form; thing: "a red hat" or "some bread"; where: "at the market" or "in Dorvale"."""

    who: str
    verb: str
    thing: str
    where: str

    @property
    def past(self) -> str:
        return VERBS[self.verb][1]

    @property
    def present(self) -> str:
        return VERBS[self.verb][0]

    @property
    def head(self) -> str:
        return self.thing.rsplit(" ", 1)[1]

    @property
    def spot(self) -> str:
        return self.where.rsplit(" ", 1)[1]

    def told(self, rng: Random | None = None) -> str:
        """In the past tense, plain where there is no rng."""
        form = rng.randrange(4) if rng else 0
        plain = f"{self.who} {self.past} {self.thing}"
        if form == 1:
            return f"{capital(self.where)}, {plain}."
        if form == 2 and rng:
            return f"On {rng.choice(DAYS)} {plain} {self.where}."
        return f"{plain} {self.where}."

    def now(self) -> str:
        return f"{self.who} {self.present} {self.thing} {self.where}."


def draw(world: World, rng: Random, who: str | None = None) -> Event:
    verb = rng.choice(tuple(VERBS))
    draw_thing = rng.random()
    if verb == "see" or (verb in ("find", "lose", "wash") and draw_thing < 0.4):
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(tuple(ANIMALS))}")
    elif verb != "paint" and verb != "wash" and draw_thing < 0.3:
        thing = f"some {rng.choice(FOODS)}"
    else:
        thing = a(f"{rng.choice(COLOURS)} {rng.choice(THINGS_TO_OWN)}")
    place = rng.random() < 0.35
    where = f"in {rng.choice(world.place_names)}" if place else f"{rng.choice(('at', 'near'))} the {rng.choice(SPOTS)}"
    return Event(who or rng.choice(world.person_names), verb, thing, where)


def several(world: World, rng: Random, count: int) -> list[Event]:
    """Events of different people with different things."""
    events: list[Event] = []
    while len(events) < count:
        event = draw(world, rng)
        if all(event.who != other.who and event.head != other.head and event.verb != other.verb for other in events):
            events.append(event)
    return events


def found_in(world: World, text: str) -> list[Event]:
    """The events that a passage tells, in order."""
    events = []
    for sentence in re.split(r"(?<=[.!?]) ", text):
        for form in _FORMS:
            match = form.fullmatch(sentence.rstrip(".!?"))
            if match and match["past"] in _BASE_OF and match["who"] in world.people:
                where = match["where"]
                events.append(Event(match["who"], _BASE_OF[match["past"]], match["thing"], where[0].lower() + where[1:]))
                break
    return events


def read_now(world: World, sentence: str) -> Event | None:
    """A sentence in the present tense, as `now` writes it."""
    match = re.fullmatch(rf"([A-Z][a-z]+) ([a-z]+) ({_OBJECT}) ({_WHERE})\.", sentence)
    if not match or match[1] not in world.people:
        return None
    for base, (present, _) in VERBS.items():
        if match[2] == present:
            return Event(match[1], base, match[3], match[4])
    return None
