"""A small world: invented people, places and the facts about them. Each seed gives a different world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from random import Random

from heedful.sandbox import lexicon

PEOPLE = 30
PLACES = 12


@dataclass(frozen=True)
class WorldPerson:
    """A person with four facts: home, job, favourite food and pet. `she` picks the pronouns in texts."""

    name: str
    she: bool
    place: str
    job: str
    food: str
    pet: str

    @property
    def they(self) -> str:
        return "she" if self.she else "he"

    @property
    def their(self) -> str:
        return "her" if self.she else "his"

    @property
    def them(self) -> str:
        return "her" if self.she else "him"


@dataclass(frozen=True)
class Place:
    """A town, village or city: its side of the land, what it is near to, and the food it is known for."""

    name: str
    kind: str
    side: str
    near: str
    known_for: str


@dataclass(frozen=True)
class World:
    """All facts of a world. `people` and `places` have names as keys."""

    seed: int
    people: dict[str, WorldPerson]
    places: dict[str, Place]
    classes: dict[str, tuple[str, str]] = field(repr=False)  # lower-case word -> (class, lower-case base form)

    @cached_property
    def person_names(self) -> list[str]:
        return list(self.people)

    @cached_property
    def place_names(self) -> list[str]:
        return list(self.places)


@lru_cache(maxsize=8)
def make_world(seed: int) -> World:
    """Make the world of a seed. The same seed always gives the same world."""
    rng = Random(f"heedful world {seed}")
    taken = _common_words()
    places = {}
    for name in _place_names(rng, taken):
        places[name] = Place(
            name, rng.choice(lexicon.PLACE_KINDS), rng.choice(lexicon.SIDES), rng.choice(lexicon.NEAR),
            rng.choice(lexicon.FOODS),
        )  # fmt: skip
    people = {}
    for index, (name, she) in enumerate(_person_names(rng, taken)):
        people[name] = WorldPerson(
            name, she, list(places)[index % PLACES], list(lexicon.JOBS)[rng.randrange(len(lexicon.JOBS))],
            rng.choice(lexicon.FOODS), rng.choice(list(lexicon.ANIMALS)),
        )  # fmt: skip
    return World(seed, people, places, _classes(people, places))


def _place_names(rng: Random, taken: set[str]) -> list[str]:
    """Draw the names of the places and add them to `taken`."""
    starts, ends = list(lexicon.NAMES["place_starts"]), list(lexicon.NAMES["place_ends"]) * 2
    rng.shuffle(starts)
    rng.shuffle(ends)
    names = [start + end for start, end in zip(starts[:PLACES], ends[:PLACES], strict=True)]
    taken.update(name.lower() for name in names)
    return names


def _person_names(rng: Random, taken: set[str]) -> list[tuple[str, bool]]:
    """Draw (name, she) for each person. Names differ in their first three letters, and every other one is a woman's."""
    names: list[tuple[str, bool]] = []
    heads, parts = {word[:3] for word in taken}, lexicon.NAMES
    while len(names) < PEOPLE:
        she = len(names) % 2 == 0
        stem = "".join(rng.choice(parts[part]) for part in ("onsets", "vowels", "middles"))
        name = stem + rng.choice(parts["her_endings" if she else "his_endings"])
        if stem[:3] in heads or name in taken or any(part in name for part in parts["unkind"]):
            continue
        if stem.startswith(parts["odd_starts"]):
            continue
        heads.add(stem[:3])
        names.append((lexicon.capital(name), she))
    return names


def _common_words() -> set[str]:
    """Words of the language that no name may be."""
    tables: tuple[Iterable[str], ...] = (
        lexicon.PLURALS, lexicon.SINGULARS, lexicon.FOODS, lexicon.COLOURS, lexicon.SPOTS, lexicon.GOOD, lexicon.BAD,
        lexicon.USE_WORDS, lexicon.OPPOSITES, lexicon.NUMBERS, lexicon.AVOID_WORDS, lexicon.NAMES["words"],
    )  # fmt: skip
    return {word for table in tables for word in table}


def _classes(people: dict[str, WorldPerson], places: dict[str, Place]) -> dict[str, tuple[str, str]]:
    """The class and base form of each word that a text can name. Later tables win where a word is in several."""
    classes: dict[str, tuple[str, str]] = {}
    for kind, table in (
        ("thing", lexicon.THINGS), ("clothes", lexicon.CLOTHES), ("tool", lexicon.TOOLS), ("job", lexicon.JOBS),
        ("ingredient", lexicon.INGREDIENTS), ("animal", lexicon.ANIMALS),
    ):  # fmt: skip
        for singular, plural in table.items():
            classes[plural] = (kind + "s", singular)
            classes[singular] = (kind, singular)
    for kind, words in (
        ("food", lexicon.FOODS), ("colour", lexicon.COLOURS), ("spot", lexicon.SPOTS), ("day", lexicon.DAYS),
        ("number", lexicon.NUMBERS), ("use", lexicon.USE_WORDS), ("person", people), ("place", places),
    ):  # fmt: skip
        for word in words:
            classes[word.lower()] = (kind, word.lower())
    return classes
