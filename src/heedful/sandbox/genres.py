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
    PLURALS,
    SPOTS,
    a,
    bare,
    capital,
)  # fmt: skip
from heedful.sandbox.world import World

# how good texts of a genre open and close, in lower case and without marks: what their form is judged by
STORY_OPENS = ("once", "long ago", "one day", "early one morning")
STORY_CLOSES = ("in the end", "at last", "from that day")
REVIEW_CLOSES = ("try it", "come back soon", "all my friends", "go there", "not come back", "money back")
LOST_CLOSES = ("if you see it", "help me find my", "bring it back to me")
LETTER_CLOSES = ("see you soon", "best wishes", "your old friend", "with love")
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
    return f"in {place}" if place else f"{rng.choice(('near', 'by'))} the {rng.choice(SPOTS)}"


_OPENINGS = (
    "long ago {a} lived {where}.",
    "one day {a} found {obj} {where}.",
    "once {a} lost {obj} {where}.",
    "one day {a} sat {where}.",
    "early one morning {a} sat {where}.",
)
_OF_SOMEBODY = (*_OPENINGS, "once there was {a} {where}.")
_OF_PERSON = (*_OPENINGS, "once {a} had a house {where}.")
_OF_TWO = (
    "one day {a} met {b} {where}.",
    "once {a} and {b} lived {where}.",
    "long ago {a} met {b} {where}.",
    "early one morning {a} saw {b} {where}.",
    "once {a} worked with {b} {where}.",
)
_EVENTS = (
    "{they} was hungry and looked for {food}.",
    "{S} had {obj} and was proud of it.",
    "{they} lost {their} {thing} and looked for it all day.",
    "the wind was cold, so {S} ran home.",
    "{S} saw {obj} and took it home.",
    "{they} sang a song all morning.",
    "{S} had no money and no bread.",
    "then the rain came and {S} got wet.",
    "{they} worked hard all day.",
    "{S} was afraid of the dark.",
    "an old friend gave {them} some {food}.",
    "{they} walked to the {spot} and back.",
)
_EVENTS_OF_TWO = (
    "{S} asked {P} for some {food}.",
    "{P} gave {S} {obj}.",
    "{S} and {P} walked to the {spot}.",
    "{P} was sad, so {S} sang a song.",
    "{S} and {P} shared some {food}.",
    "{S} helped {P} all day.",
    "then {P} showed {S} {obj}.",
    "{S} told {P} a long story.",
)
_ENDINGS = (
    "in the end {S} was happy.",
    "at last {they} went home and slept.",
    "in the end {S} found a friend.",
    "from that day {S} was never afraid.",
    "at last {S} was home again.",
    "from that day {they} was never sad.",
)
_ENDINGS_OF_TWO = (
    "in the end {S} and {P} were good friends.",
    "from that day {S} and {P} were never alone.",
    "at last {S} and {P} went home.",
    "in the end {P} thanked {S}.",
)


def story(
    world: World, rng: Random, subject: str, partner: str | None = None, place: str | None = None, size: int = 1
) -> list[str]:
    """Opening, `size` events, ending."""
    one = hero(world, subject, rng)
    words = {"a": one.first, "S": one.later, "they": one.they, "their": one.their, "them": one.them}
    parts: tuple[tuple[str, ...], ...] = (_OF_PERSON if subject in world.people else _OF_SOMEBODY, _EVENTS, _ENDINGS)
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


_CLOSINGS = ("See you soon!", "Best wishes!", "Your old friend.", "With love.")


def note(rng: Random, who: str, event: str, day: str, size: int = 1) -> list[str]:
    """An invitation."""
    forms = (
        "please come to {event} on {day}.", "you are welcome at {event} on {day}.",
        "I hope you can come to {event} on {day}.", "{event} is on {day}, so please come.",
    )  # fmt: skip
    more = (
        f"We will have {rng.choice(FOODS)} and music.", f"It will be near the {rng.choice(SPOTS)}.", "It starts early.",
        "All our friends will be there.", f"I miss you, {who}.", f"Please bring some {rng.choice(FOODS)}.",
    )  # fmt: skip
    asking = rng.choice(forms).format(event=event, day=day)
    return [f"Dear {who}, {asking}", *rng.sample(more, size), rng.choice(_CLOSINGS)]


def thanks(rng: Random, who: str, thing: str, size: int = 1) -> list[str]:
    """A thank you note for a thing ("red hat")."""
    forms = ("thank you for the {thing}.", "thank you so much for the {thing}.", "many thanks for the {thing}.")
    more = ("It is lovely.", "I use it every day.", "My friends like it too.", "It made me very happy.")
    return [f"Dear {who}, {rng.choice(forms).format(thing=thing)}", *rng.sample(more, size), rng.choice(_CLOSINGS)]


def review(rng: Random, item: str, place: str, good: bool, size: int = 1) -> list[str]:
    """Of a food or a spot."""
    words = GOOD if good else BAD
    one, two = rng.sample(words if item in FOODS else words[:4], 2)
    forms = (
        "The {item} in {place} was {one}.", "The {item} in {place} was {one} and {two}.",
        "I think the {item} in {place} is {one}.",
    )  # fmt: skip
    if good:
        more = ("The people were kind.", "I was very happy with it.", "My friends loved it too.", "It was a great day.")
        closes = ("You should try it.", "I will come back soon.", "I will tell all my friends.")
    else:
        more = ("The people were not kind.", "I was not happy.", "My friends did not like it.", "It was a bad day.")
        closes = ("Do not go there.", "I will not come back.", "I want my money back.")
    first = rng.choice(forms).format(item=item, place=place, one=one, two=two)
    return [first, *rng.sample(more, size), rng.choice(closes)]


WORK = {  # dish -> what is done with what is in it, and how
    "soup": ("boil", "with water and salt", "in hot water"),
    "pie": ("bake", "with butter and flour", "in a pie"),
    "salad": ("mix", "with oil and salt", "with fresh leaves"),
    "cake": ("bake", "with flour and eggs", "with milk and sugar"),
}


def recipe(rng: Random, ingredient: str, dish: str, size: int = 1) -> list[str]:
    """`ingredient` in the singular, as in "carrot soup"."""
    many, (verb, *ways) = PLURALS[ingredient], WORK[dish]
    first = rng.choice(("First wash and cut the {many}.", "First take some fresh {many}.", "First cut four {many}."))
    more = ("Wait one hour.", "Add a little honey.", "Add some salt.")
    last = rng.choice(("Serve the {x} with bread.", "Serve the {x} to your friends.")).format(x=f"{ingredient} {dish}")
    work = f"Then {verb} them {rng.choice(ways)}."
    return [first.format(many=many), work, *rng.sample(more, max(0, size - 1)), last]


def lost(rng: Random, colour: str, animal: str, place: str, size: int = 1) -> list[str]:
    """A notice about a lost animal."""
    seen = rng.choice(("It was last seen in {place}.", "It ran away in {place}.", "I lost it in {place} on {day}."))
    more = (f"My {animal} is small and kind.", f"The {animal} likes bread.", f"I miss my {animal} very much.")
    last = rng.choice(
        ("Please tell me if you see it.", f"Please help me find my {animal}.", "Please bring it back to me.")
    )
    seen = seen.format(place=place, day=rng.choice(DAYS))
    return [f"Lost: {a(colour)} {animal}.", seen, *rng.sample(more, max(0, size - 1)), last]


def sale(rng: Random, goods: str, spot: str, size: int = 1) -> list[str]:
    """A notice about goods on sale."""
    them, are = ("it", "It is") if goods in FOODS else ("them", "They are")
    more = (
        f"{are} the best in the land.",
        "The price is low.",
        f"We have a lot of {them}.",
        f"There is no better place for {goods}.",
    )
    last = rng.choice(("Come early on {day}.", "Come and see us on {day}.", "We open on {day}."))
    first = f"For sale: {rng.choice(('good', 'fine', 'new'))} {goods} at the {spot}."
    return [first, *rng.sample(more, size), last.format(day=rng.choice(DAYS))]


def advert(rng: Random, goods: str, size: int = 1) -> list[str]:
    """Lines that sell."""
    them = "it" if goods in FOODS else "them"
    first = rng.choice(("Come and buy our {goods}!", "Come and try our {goods}!", "Buy our {goods} today!"))
    more = (f"Our {goods} will make you happy.", "The price is low.", f"All your friends will want {them}.")
    last = rng.choice((f"You will love {them}!", "You will come back for more!"))
    return [first.format(goods=goods), *rng.sample(more, size), last]


_REMARKS = {
    "place": (
        "Many people live in {s}.", "I like to walk in {s}.", "I think that {s} is a fine place.",
        "We went to {s} last year.",
    ),
    "person": (
        "I met {s} {where}.", "I think that {s} is a good friend.", "Last week {s} found {obj} {where}.",
        "All my friends know {s}.",
    ),
    "food": (
        "I like to eat {s} in the morning.", "The {s} in {place} is fresh.", "We had {s} for dinner.",
        "I need some {s}.",
    ),
    "being": ("I saw {s} {where}.", "{S} sat {where} and sang.", "{S} found {obj} {where}.", "There is {s} {where}."),
    "thing": ("I found {s} {where}.", "There is {s} {where}.", "My friend gave me {s}.", "I need {s} for my work."),
}  # fmt: skip


def remark(world: World, rng: Random, subject: str) -> str:
    """One sentence about anything: a person, a place, an animal, a job, a food, a thing, a tool."""
    if subject in world.places or subject in world.people:
        kind = "place" if subject in world.places else "person"
    elif subject in FOODS:
        kind = "food"
    else:
        kind = "being" if bare(subject) in ANIMALS or bare(subject) in JOBS else "thing"
    words = {"s": subject, "S": capital(subject), "obj": owned(rng), "where": somewhere(rng)}
    return rng.choice(_REMARKS[kind]).format(place=rng.choice(world.place_names), **words)


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


def about_place(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two or three true facts."""
    place = world.places[name]
    known = rng.choice((f"People know {name} for its {place.known_for}.", f"It is known for its {place.known_for}."))
    more = [f"{name} lies in the {place.side}.", known]
    rng.shuffle(more)
    return [f"The {place.kind} of {name} is {place.near}.", *more[: 1 + (size > 0)]]


def any_event(rng: Random) -> tuple[str, str]:
    """What to invite to, and when."""
    return rng.choice(EVENTS), rng.choice(DAYS)
