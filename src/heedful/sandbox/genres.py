"""Short texts of each kind, sentence by sentence: what the web of the small world and good answers are made of.

Every function returns a list of sentences. `size` is how much to tell: 0 brief, 1 plain, 2 detailed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from heedful.sandbox.lexicon import (
    ANIMALS, BAD, COLOURS, DAYS, EVENTS, FOODS, GOOD, JOBS, PLURALS, SPOTS, THINGS, CLOTHES, USE_WORDS, a, capital,
)  # fmt: skip
from heedful.sandbox.world import World

THINGS_TO_OWN = tuple(THINGS) + tuple(CLOTHES)
OPENING_CUES = ("once", "long ago", "one day", "early one morning")
ENDING_CUES = ("in the end", "at last", "from that day")
REVIEW_ENDS = ("try it", "come back soon", "all my friends", "go there", "come back", "money back")
LOST_ENDS = ("tell me if you see it", "help me find it", "bring it back to me")
CLOSINGS = ("See you soon!", "Best wishes!", "Your old friend.", "With love.")


@dataclass(frozen=True)
class Hero:
    """Who a text is about: how it is named at first, later, and by a pronoun."""

    first: str
    later: str
    they: str
    their: str
    them: str


def hero(world: World, subject: str, rng: Random) -> Hero:
    """`subject` is a name or a job or animal with its article ("a fox")."""
    if subject in world.people:
        person = world.people[subject]
        return Hero(subject, subject, person.they, person.their, person.them)
    noun = subject.split(" ", 1)[1]
    if noun in ANIMALS:
        return Hero(subject, f"the {noun}", "it", "its", "it")
    they = rng.choice(("she", "he"))
    return Hero(subject, f"the {noun}", they, *(("her", "her") if they == "she" else ("his", "him")))


def owned(rng: Random) -> str:
    """A thing with a colour: a red hat."""
    return a(f"{rng.choice(COLOURS)} {rng.choice(THINGS_TO_OWN)}")


def somewhere(rng: Random, place: str | None = None) -> str:
    return f"in {place}" if place else f"{rng.choice(('near', 'by'))} the {rng.choice(SPOTS)}"


def story(
    world: World, rng: Random, subject: str, partner: str | None = None, place: str | None = None, size: int = 1
) -> list[str]:
    """Opening, `size` events (at least one when detailed), ending."""
    first = hero(world, subject, rng)
    if partner:
        second = hero(world, partner, rng)
        pair = {"S": first.later, "P": second.later, "a": first.first, "b": second.first}
        opening = rng.choice(_PAIR_OPENINGS).format(where=somewhere(rng, place), **pair)
        ending = rng.choice(_PAIR_ENDINGS).format(**pair)
        pool = _PAIR_EVENTS
    else:
        pair = {"S": first.later, "a": first.first}
        named = subject in world.people
        opening = rng.choice(_NAMED_OPENINGS if named else _OPENINGS).format(
            where=somewhere(rng, place), obj=owned(rng), **pair
        )
        ending = rng.choice(_ENDINGS).format(they=first.they, **pair)
        pool = _EVENTS
    words = {"they": first.they, "their": first.their, "them": first.them, **pair}
    events = [event_of(rng, sentence, words) for sentence in rng.sample(pool, size)]
    return [capital(opening), *events, capital(ending)]


def event_of(rng: Random, sentence: str, words: dict[str, str]) -> str:
    return capital(
        sentence.format(obj=owned(rng), food=rng.choice(FOODS), spot=rng.choice(SPOTS),
                        thing=rng.choice(THINGS_TO_OWN), **words)
    )  # fmt: skip


def follow_up(world: World, rng: Random, subject: str, size: int = 1) -> list[str]:
    """What happens after the first sentence of a story."""
    return story(world, rng, subject, size=max(1, size))[1:]


_OPENINGS = (
    "once there was {a} {where}.",
    "long ago {a} lived {where}.",
    "one day {a} found {obj} {where}.",
    "once {a} lost {obj} {where}.",
    "one day {a} sat {where}.",
    "early one morning {a} sat {where}.",
)
_NAMED_OPENINGS = (
    "once {a} had a house {where}.",
    "long ago {a} lived {where}.",
    "one day {a} found {obj} {where}.",
    "once {a} lost {obj} {where}.",
    "one day {a} sat {where}.",
    "early one morning {a} sat {where}.",
)
_PAIR_OPENINGS = (
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
_PAIR_EVENTS = (
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
_PAIR_ENDINGS = (
    "in the end {S} and {P} were good friends.",
    "from that day {S} and {P} were never alone.",
    "at last {S} and {P} went home.",
    "in the end {P} thanked {S}.",
)


def one_line(sentences: list[str]) -> list[str]:
    """The first and the last sentence joined by "and"."""
    first, last = sentences[0], sentences[-1]
    return [f"{first[:-1]}, and {last[0].lower()}{last[1:]}"] if len(sentences) > 1 else [first]


def note(rng: Random, who: str, event: str, day: str, size: int = 1) -> list[str]:
    """An invitation."""
    asking = rng.choice((
        "please come to {event} on {day}.", "you are welcome at {event} on {day}.",
        "I hope you can come to {event} on {day}.", "{event} is on {day}, so please come.",
    )).format(event=event, day=day)  # fmt: skip
    more = [
        f"We will have {rng.choice(FOODS)} and music.", f"It will be near the {rng.choice(SPOTS)}.", "It starts early.",
        "All our friends will be there.", f"Please bring some {rng.choice(FOODS)}.",
    ]  # fmt: skip
    return [f"Dear {who}, {asking}", *rng.sample(more, size), rng.choice(CLOSINGS)]


def thanks(rng: Random, who: str, thing: str, size: int = 1) -> list[str]:
    """A thank you note for a thing ("red hat")."""
    opening = rng.choice((
        "thank you for the {thing}.", "thank you so much for the {thing}.", "many thanks for the {thing}.",
    )).format(thing=thing)  # fmt: skip
    more = ["It is lovely.", "I use it every day.", "My friends like it too.", "It made me very happy."]
    return [f"Dear {who}, {opening}", *rng.sample(more, size), rng.choice(CLOSINGS)]


def review(rng: Random, item: str, place: str, good: bool, size: int = 1) -> list[str]:
    """`item` is a food or a spot."""
    adjectives = (GOOD if good else BAD)[:6] if item in FOODS else (GOOD if good else BAD)[:4]
    opening = rng.choice((
        "The {item} in {place} was {one}.", "The {item} in {place} was {one} and {two}.", "I think the {item} in {place} is {one}.",
    ))  # fmt: skip
    one, two = rng.sample(adjectives, 2)
    if good:
        more = ["The people were kind.", "I was very happy with it.", "My friends loved it too.", "It was a great day."]
        ends = ["You should try it.", "I will come back soon.", "I will tell all my friends."]
    else:
        more = ["The people were not kind.", "I was not happy with it.", "My friends did not like it.", "It was a bad day."]
        ends = ["Do not go there.", "I will not come back.", "I want my money back."]
    return [opening.format(item=item, place=place, one=one, two=two), *rng.sample(more, size), rng.choice(ends)]


WORK = {  # dish -> what is done with what is in it, and how
    "soup": ("boil", "with water and salt", "in hot water"),
    "pie": ("bake", "with butter and flour", "in a pie"),
    "salad": ("mix", "with oil and salt", "with fresh leaves"),
    "cake": ("bake", "with flour and eggs", "with milk and sugar"),
}


def recipe(rng: Random, ingredient: str, dish: str, size: int = 1) -> list[str]:
    """`ingredient` in the singular, as in "carrot soup"."""
    many = PLURALS[ingredient]
    verb, *ways = WORK[dish]
    first = rng.choice((f"First wash and cut the {many}.", f"First take some fresh {many}.", f"First cut four {many}."))
    more = ["Wait one hour.", "Add a little honey.", "Add some salt."]
    serve = rng.choice((f"Serve the {ingredient} {dish} with bread.", f"Serve the {ingredient} {dish} to your friends."))
    return [first, f"Then {verb} them {rng.choice(ways)}.", *rng.sample(more, max(0, size - 1)), serve]


def lost(rng: Random, colour: str, animal: str, place: str, size: int = 1) -> list[str]:
    """A notice about a lost animal."""
    seen = rng.choice((
        "It was last seen in {place}.", "It ran away in {place}.", "I lost it in {place} on {day}.",
    )).format(place=place, day=rng.choice(DAYS))  # fmt: skip
    more = ["It is small and kind.", "It likes to eat bread.", "It is afraid of loud people.", "I miss it very much."]
    ask = rng.choice(("Please tell me if you see it.", "Please help me find it.", "Please bring it back to me."))
    return [f"Lost: {a(colour)} {animal}.", seen, *rng.sample(more, max(0, size - 1)), ask]


def sale(rng: Random, goods: str, spot: str, size: int = 1) -> list[str]:
    """A notice about goods on sale."""
    more = ["It is the best in the land.", "The price is low.", "We have a lot of it.", "It is all very fresh."]
    more = more if goods in FOODS else ["They are the best in the land.", "The price is low.", "We have a lot of them."]
    come = rng.choice(("Come early on {day}.", "Come and see us on {day}.", "We open on {day}.")).format(day=rng.choice(DAYS))
    return [f"For sale: {rng.choice(('good', 'fine', 'new'))} {goods} at the {spot}.", *rng.sample(more, size), come]


def advert(rng: Random, goods: str, size: int = 1) -> list[str]:
    """One to three lines that sell."""
    first = rng.choice(("Come and buy our {goods}!", "Come and try our {goods}!", "Buy our {goods} today!")).format(goods=goods)
    more = [f"Our {goods} will make you happy.", "The price is low.", "All your friends will love it."]
    last = rng.choice(("You will love it!", "You will come back for more!"))
    if goods not in FOODS:
        more[-1], last = "All your friends will love them.", last.replace("love it", "love them")
    return [first, *rng.sample(more, size), last]


def remark(world: World, rng: Random, subject: str) -> str:
    """One sentence about anything: a person, a place, an animal, a job, a food, a thing, a tool."""
    if subject in world.places:
        forms = ("Many people live in {s}.", "I like to walk in {s}.", "{s} is a fine place to live.", "We went to {s} last year.")
    elif subject in world.people:
        forms = ("{s} saw {obj} {where}.", "I met {s} {where}.", "{s} is a good friend of mine.", "{s} found {obj} {where}.")
    elif " " not in subject:
        forms = ("I like to eat {s} in the morning.", "The {s} {where} is fresh.", "We had {s} for dinner.", "{S} is good with honey.")
    elif subject.split(" ", 1)[1] in ANIMALS or subject.split(" ", 1)[1] in JOBS:
        forms = ("I saw {s} {where}.", "{S} sat {where} and sang.", "{S} found {obj} {where}.", "There is {s} {where}.")
    else:
        forms = ("I found {s} {where}.", "There is {s} {where}.", "My friend gave me {s}.", "I need {s} for my work.")
    return rng.choice(forms).format(s=subject, S=capital(subject), obj=owned(rng), where=somewhere(rng))


def about_person(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two to four true facts."""
    person = world.people[name]
    they = capital(person.they)
    lines = [
        rng.choice(("{n} lives in {place}.", "{n} has a house in {place}.")),
        rng.choice(("{n} works as {job}.", "{n} is {job}.")),
        rng.choice(("{n} likes {food}.", "{n} likes to eat {food}.")),
        rng.choice(("{n} has {pet}.", "{n} keeps {pet}.")),
    ]
    rng.shuffle(lines)
    facts = {"place": person.place, "job": a(person.job), "food": person.food, "pet": a(person.pet)}
    return [line.format(n=they if i else name, **facts) for i, line in enumerate(lines[: 2 + size])]


def about_place(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two or three true facts."""
    place = world.places[name]
    lines = [f"{name} is {a(place.kind)} {place.near}.", f"It lies in the {place.side}.", f"It is known for its {place.known_for}."]
    if rng.random() < 0.5:
        lines[1:] = [lines[2], lines[1]]
    return lines[: 2 + (size > 0)]


CARRIERS = ("There was a {word} too.", "I can see a {word} from here.", "A {word} was near by.")


def carrier(rng: Random, word: str) -> str:
    """A sentence for a word that has to be used somewhere."""
    assert word in USE_WORDS
    return rng.choice(CARRIERS).format(word=word)


def any_event(rng: Random) -> tuple[str, str]:
    """What to invite to, and when."""
    return rng.choice(EVENTS), rng.choice(DAYS)
