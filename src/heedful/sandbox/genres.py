"""Short texts of each kind, sentence by sentence: what the web of the small world and good answers are made of.

Every function returns a list of sentences. `size` is how much to tell: 0 brief, 1 plain, 2 detailed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from heedful.sandbox.lexicon import (
    ANIMALS,
    BAD,
    COLOURS,
    DAYS,
    EVENTS,
    FOODS,
    GOOD,
    JOBS,
    OWNED,
    SPOTS,
    a,
    bare,
    capital,
)  # fmt: skip
from heedful.sandbox.world import World

# how good texts of a genre open and close, in lower case and without marks: what their form is judged by
STORY_OPENS = ("once", "long ago", "one day")
STORY_CLOSES = ("in the end", "at last", "from that day")
REVIEW_CLOSES = ("try it", "come back soon", "go there", "not come back")
LOST_CLOSES = ("if you see it", "help me find my")
LETTER_CLOSES = ("see you soon", "best wishes", "with love")
ADVERT_CLOSES = ("love it", "love them", "for more")


@dataclass(frozen=True)
class Hero:
    """Who a story is about: how it is named at first, later, and by pronouns."""

    first: str
    later: str
    they: str
    their: str
    them: str


def hero(world: World, subject: str, rng: Random) -> Hero:
    """`subject` is a name, or a job or animal with its article ("a fox")."""
    if subject in world.people:
        person = world.people[subject]
        return Hero(subject, subject, person.they, person.their, person.them)
    noun = bare(subject)
    if noun in ANIMALS:
        return Hero(subject, f"the {noun}", "it", "its", "it")
    if rng.random() < 0.5:
        return Hero(subject, f"the {noun}", "she", "her", "her")
    return Hero(subject, f"the {noun}", "he", "his", "him")


def owned(rng: Random) -> str:
    """A thing with a colour: a red hat."""
    return a(f"{rng.choice(COLOURS)} {rng.choice(OWNED)}")


def somewhere(rng: Random, place: str | None = None) -> str:
    return f"in {place}" if place else f"near the {rng.choice(SPOTS)}"


_OPENINGS = (
    "once {a} lived {where}.",
    "one day {a} found {obj} {where}.",
    "one day {a} sat {where}.",
    "long ago {a} lost {obj} {where}.",
)
_OF_TWO = (
    "one day {a} met {b} {where}.",
    "once {a} and {b} lived {where}.",
    "long ago {a} saw {b} {where}.",
)
_EVENTS = (
    "{S} was hungry and looked for {food}.",
    "{S} had {obj} and was proud of it.",
    "the wind was cold, so {S} ran home.",
    "{S} saw {obj} and took it home.",
    "{S} sang a song all morning.",
    "{S} was afraid of the dark.",
    "{they} worked hard all day.",
)
_EVENTS_OF_TWO = (
    "{S} asked {P} for some {food}.",
    "{P} gave {S} {obj}.",
    "{S} and {P} shared some {food}.",
    "{S} helped {P} all day.",
    "{P} was sad, so {S} sang a song.",
)
_ENDINGS = (
    "in the end {S} was happy.",
    "at last {S} went home.",
    "in the end {S} found a friend.",
    "from that day {S} was never afraid.",
)
_ENDINGS_OF_TWO = (
    "in the end {S} and {P} were good friends.",
    "from that day {S} and {P} were never alone.",
    "at last {S} and {P} went home.",
)


def story(
    world: World, rng: Random, subject: str, partner: str | None = None, place: str | None = None, size: int = 1
) -> list[str]:
    """Opening, `size` events, ending."""
    one = hero(world, subject, rng)
    words = {"a": one.first, "S": one.later, "they": one.they, "their": one.their, "them": one.them}
    parts: tuple[tuple[str, ...], ...] = (_OPENINGS, _EVENTS, _ENDINGS)
    if partner:
        two = hero(world, partner, rng)
        words |= {"b": two.first, "P": two.later}
        parts = _OF_TWO, _EVENTS_OF_TWO, _ENDINGS_OF_TWO
    openings, events, endings = parts

    def say(form: str) -> str:
        words.update(where=somewhere(rng, place), obj=owned(rng), food=rng.choice(FOODS), thing=rng.choice(OWNED))
        return capital(form.format(spot=rng.choice(SPOTS), **words))

    return [say(rng.choice(openings)), *(say(form) for form in rng.sample(events, size)), say(rng.choice(endings))]


def one_line(sentences: list[str]) -> str:
    """The opening and the ending of a story joined by "and"."""
    first, last = sentences[0], sentences[-1]
    return f"{first[:-1]}, and {last[0].lower()}{last[1:]}"


_CLOSINGS = ("See you soon!", "Best wishes!", "With love.")


def note(rng: Random, who: str, event: str, day: str, size: int = 1) -> list[str]:
    """An invitation."""
    asking = rng.choice(("please come to {event} on {day}.", "I hope you can come to {event} on {day}."))
    more = (f"We will have {rng.choice(FOODS)} and music.", "All our friends will be there.", f"I miss you, {who}.")
    return [f"Dear {who}, {asking.format(event=event, day=day)}", *rng.sample(more, size), rng.choice(_CLOSINGS)]


def thanks(rng: Random, who: str, thing: str, size: int = 1) -> list[str]:
    """A thank you note for a thing ("red hat")."""
    opening = rng.choice(("thank you for the {thing}.", "many thanks for the {thing}.")).format(thing=thing)
    more = (f"I love the {thing}.", "I use it every day.", "It made me very happy.")
    return [f"Dear {who}, {opening}", *rng.sample(more, size), rng.choice(_CLOSINGS)]


def review(rng: Random, item: str, place: str, good: bool, size: int = 1) -> list[str]:
    """Of a food or a spot."""
    words = rng.sample(GOOD if good else BAD, 2)
    first = rng.choice(("The {item} in {place} was {one}.", "The {item} in {place} was {one} and {two}."))
    if good:
        more = ("The people were kind.", f"I was happy with the {item}.", f"My friends loved the {item} too.")
        closes = ("You should try it.", "I will come back soon.")
    else:
        more = ("The people were not kind.", "I was not happy.", f"My friends did not like the {item}.")
        closes = ("Do not go there.", "I will not come back.")
    opening = first.format(item=item, place=place, one=words[0], two=words[1])
    return [opening, *rng.sample(more, size), rng.choice(closes)]


def lost(rng: Random, colour: str, animal: str, place: str, size: int = 1) -> list[str]:
    """A notice about a lost animal."""
    seen = rng.choice((f"It was last seen in {place}.", f"It ran away in {place}."))
    more = (f"My {animal} is small and kind.", f"I miss my {animal} very much.")
    last = rng.choice(("Please tell me if you see it.", f"Please help me find my {animal}."))
    return [f"Lost: {a(colour)} {animal}.", seen, *rng.sample(more, max(0, size - 1)), last]


def advert(rng: Random, goods: str, size: int = 1) -> list[str]:
    """Lines that sell."""
    them = "it" if goods in FOODS else "them"
    first = rng.choice((f"Come and buy our {goods}!", f"Come and try our {goods}!"))
    more = (f"Our {goods} will make you happy.", "The price is low.", f"All your friends will want {them}.")
    last = rng.choice((f"You will love {them}!", "You will come back for more!"))
    return [first, *rng.sample(more, size), last]


_REMARKS = {
    "place": ("Many people live in {s}.", "I like to walk in {s}.", "We went to {s} last year."),
    "person": ("I met {s} {where}.", "All my friends know {s}.", "I think that {s} is a good friend."),
    "food": ("I like to eat {s} in the morning.", "We had {s} for dinner.", "I need some {s}."),
    "being": ("I saw {s} {where}.", "There is {s} {where}.", "I met {s} {where}."),
    "thing": ("I found {s} {where}.", "My friend gave me {s}.", "I need {s} for my work."),
}


def remark(world: World, rng: Random, subject: str) -> str:
    """One sentence about anything: a person, a place, an animal, a job, a food, a thing, a tool."""
    if subject in world.places or subject in world.people:
        kind = "place" if subject in world.places else "person"
    elif subject in FOODS:
        kind = "food"
    else:
        kind = "being" if bare(subject) in ANIMALS or bare(subject) in JOBS else "thing"
    return rng.choice(_REMARKS[kind]).format(s=subject, where=somewhere(rng))


_FACTS_FIRST = (
    "The home of {n} is {place}.", "By trade {n} is {job}.", "The best food for {n} is {food}.",
    "The pet of {n} is {pet}.",
)  # fmt: skip
_FACTS_NEXT = ("{n} lives in {place}.", "{n} works as {job}.", "{n} likes {food}.", "{n} has {pet}.")


def about_person(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two to four true facts."""
    person, told = world.people[name], []
    facts = {"place": person.place, "job": a(person.job), "food": person.food, "pet": a(person.pet)}
    for number, fact in enumerate(rng.sample(range(4), 2 + size)):
        first = number == 0 or rng.random() < 0.3
        subject = name if first or rng.random() < 0.7 else capital(person.they)
        told.append((_FACTS_FIRST if first else _FACTS_NEXT)[fact].format(n=subject, **facts))
    return told


def any_event(rng: Random) -> tuple[str, str]:
    """What to invite to, and when."""
    return rng.choice(EVENTS), rng.choice(DAYS)
