"""Short texts of each genre, sentence by sentence. The web of the small world and good answers consist of them.

The sentences are in `language/sentences.toml`. Every function returns a list of sentences. `size` says how much to
tell: 0 brief, 1 plain, 2 detailed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from heedful.sandbox import lexicon, phrasebook
from heedful.sandbox.lexicon import a, bare, capital
from heedful.sandbox.world import World

_SAID = phrasebook.read("sentences")

STORY_OPENS: tuple[str, ...] = _SAID["story"]["opens"]
CLOSES: dict[str, tuple[str, ...]] = {genre: said["closes"] for genre, said in _SAID.items() if "closes" in said}
"""Genre -> how good texts of it close, in lower case and without marks. Their form is judged by this."""
WORK: dict[str, tuple[str, str, str]] = _SAID["recipe"]["work_of"]
"""Dish -> what the cook does with the ingredient, and two ways to do it."""


@dataclass(frozen=True)
class Hero:
    """The subject of a story: the words that name it at first and later, and its pronouns."""

    first: str
    later: str
    they: str
    their: str
    them: str


def hero(world: World, subject: str, rng: Random) -> Hero:
    """The hero for a subject: a name, or a job or animal with its article ("a fox")."""
    if subject in world.people:
        person = world.people[subject]
        return Hero(subject, subject, person.they, person.their, person.them)
    noun = bare(subject)
    if noun in lexicon.ANIMALS:
        return Hero(subject, f"the {noun}", "it", "its", "it")
    if rng.random() < 0.5:
        return Hero(subject, f"the {noun}", "she", "her", "her")
    return Hero(subject, f"the {noun}", "he", "his", "him")


def owned(rng: Random) -> str:
    """A thing with a colour: a red hat."""
    return a(f"{rng.choice(lexicon.COLOURS)} {rng.choice(lexicon.OWNED)}")


def somewhere(rng: Random, place: str | None = None) -> str:
    """In the place, or near any spot."""
    return f"in {place}" if place else f"{rng.choice(('near', 'by'))} the {rng.choice(lexicon.SPOTS)}"


def story(
    world: World, rng: Random, subject: str, partner: str | None = None, place: str | None = None, size: int = 1
) -> list[str]:
    """A story: opening, `size` events, ending."""
    one, said = hero(world, subject, rng), _SAID["story_of_two" if partner else "story"]
    words = {"a": one.first, "S": one.later, "they": one.they, "their": one.their, "them": one.them}
    openings = said["openings"]
    if partner:
        two = hero(world, partner, rng)
        words |= {"b": two.first, "P": two.later}
    else:
        openings += (said["opening_of_person" if subject in world.people else "opening_of_animal_or_job"],)

    def say(form: str) -> str:
        words.update(
            where=somewhere(rng, place), obj=owned(rng), food=rng.choice(lexicon.FOODS), thing=rng.choice(lexicon.OWNED)
        )
        return capital(form.format(spot=rng.choice(lexicon.SPOTS), **words))

    told = [say(rng.choice(openings))]
    told += [say(form) for form in rng.sample(said["events"], size)]
    return [*told, say(rng.choice(said["endings"]))]


def one_line(sentences: list[str]) -> str:
    """The opening and the ending of a story joined by "and"."""
    first, last = sentences[0], sentences[-1]
    return f"{first[:-1]}, and {last[0].lower()}{last[1:]}"


def note(rng: Random, who: str, event: str, day: str, size: int = 1) -> list[str]:
    """An invitation."""
    said = _SAID["note"]
    drawn = {
        "food": rng.choice(lexicon.FOODS),
        "spot": rng.choice(lexicon.SPOTS),
        "food2": rng.choice(lexicon.FOODS),
        "who": who,
    }
    asked = rng.choice(said["asks"]).format(event=event, day=day)
    more = [line.format(**drawn) for line in rng.sample(said["more"], size)]
    return [f"Dear {who}, {asked}", *more, rng.choice(_SAID["letter"]["closings"])]


def thanks(rng: Random, who: str, thing: str, size: int = 1) -> list[str]:
    """A thank you note for a thing ("red hat")."""
    said = _SAID["thanks"]
    thanked = rng.choice(said["says"]).format(thing=thing)
    return [f"Dear {who}, {thanked}", *rng.sample(said["more"], size), rng.choice(_SAID["letter"]["closings"])]


def review(rng: Random, item: str, place: str, good: bool, size: int = 1) -> list[str]:
    """A review of a food or a spot."""
    said, words = _SAID["review"], lexicon.GOOD if good else lexicon.BAD
    toned = said["good" if good else "bad"]
    one, two = rng.sample(words if item in lexicon.FOODS else words[:4], 2)
    first = rng.choice(said["says"]).format(item=item, place=place, one=one, two=two)
    return [first, *rng.sample(toned["more"], size), rng.choice(toned["closings"])]


def recipe(rng: Random, ingredient: str, dish: str, size: int = 1) -> list[str]:
    """A recipe. `ingredient` is in the singular, as in "carrot soup"."""
    said, many, (verb, *ways) = _SAID["recipe"], lexicon.PLURALS[ingredient], WORK[dish]
    first = rng.choice(said["firsts"]).format(many=many)
    last = rng.choice(said["lasts"]).format(x=f"{ingredient} {dish}")
    work = said["work"].format(verb=verb, way=rng.choice(ways))
    return [first, work, *rng.sample(said["more"], max(0, size - 1)), last]


def lost(rng: Random, colour: str, animal: str, place: str, size: int = 1) -> list[str]:
    """A notice about a lost animal."""
    said = _SAID["lost"]
    seen, last = rng.choice(said["seen"]), rng.choice(said["lasts"])
    words = {"owned": f"{a(colour)} {animal}", "animal": animal, "place": place, "day": rng.choice(lexicon.DAYS)}
    told = [said["first"], seen, *rng.sample(said["more"], max(0, size - 1)), last]
    return [line.format(**words) for line in told]


def sale(rng: Random, goods: str, spot: str, size: int = 1) -> list[str]:
    """A notice about goods on sale."""
    said = _SAID["sale"]
    them, are = ("it", "It is") if goods in lexicon.FOODS else ("them", "They are")
    last, first = (
        rng.choice(said["lasts"]),
        said["first"].format(adj=rng.choice(said["adjectives"]), goods=goods, spot=spot),
    )
    more = [line.format(They_are=are, them=them, goods=goods) for line in rng.sample(said["more"], size)]
    return [first, *more, last.format(day=rng.choice(lexicon.DAYS))]


def advert(rng: Random, goods: str, size: int = 1) -> list[str]:
    """Lines that sell goods."""
    said, words = _SAID["advert"], {"goods": goods, "them": "it" if goods in lexicon.FOODS else "them"}
    first, last = rng.choice(said["firsts"]), rng.choice(said["lasts"])
    return [line.format(**words) for line in (first, *rng.sample(said["more"], size), last)]


def remark(world: World, rng: Random, subject: str) -> str:
    """One sentence about a person, a place, an animal, a job, a food, a thing or a tool."""
    if subject in world.places or subject in world.people:
        kind = "place" if subject in world.places else "person"
    elif subject in lexicon.FOODS:
        kind = "food"
    else:
        kind = "being" if bare(subject) in lexicon.ANIMALS or bare(subject) in lexicon.JOBS else "thing"
    words = {"s": subject, "S": capital(subject), "obj": owned(rng), "where": somewhere(rng)}
    return rng.choice(_SAID["remark"][kind]).format(place=rng.choice(world.place_names), **words)


def about_person(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two to four true facts about a person."""
    person, said, told = world.people[name], _SAID["about_person"], []
    facts = {"place": person.place, "job": a(person.job), "food": person.food, "pet": a(person.pet)}
    for number, fact in enumerate(rng.sample(range(4), 2 + size)):
        first = number == 0 or rng.random() < 0.3
        subject = name if first or rng.random() < 0.7 else capital(person.they)
        told.append(said["first" if first else "next"][fact].format(n=subject, **facts))
    return told


def about_place(world: World, rng: Random, name: str, size: int = 1) -> list[str]:
    """Two or three true facts about a place."""
    place, said = world.places[name], _SAID["about_place"]
    more = [said["lies"], rng.choice(said["known"])]
    rng.shuffle(more)
    return [line.format(**vars(place)) for line in (said["first"], *more[: 1 + (size > 0)])]


def any_event(rng: Random) -> tuple[str, str]:
    """What to invite to, and when."""
    return rng.choice(lexicon.EVENTS), rng.choice(lexicon.DAYS)
