"""A small world: invented people and places and the facts about them. Each seed makes another one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from random import Random

from heedful.sandbox import lexicon

PEOPLE = 30
PLACES = 12

_ONSETS = "b d f g h j k l m n p r s t v w z br dr gr tr st".split()
_MIDDLES = "l m n r s t v d b k l n r m".split()
_HER = ("a", "ia", "ina", "el", "is")
_HIS = ("o", "en", "us", "an", "or")
_PLACE_STARTS = (
    "Dor Mer Hal Kes Lun Bar Tor Wen Gal Nor Sel Pel Ash Oak Fen Hol Mar Tam Vel Rud Zan Bri Cas Ell Gor "
    "Ives Jor Lam Mos Ost"
).split()
_PLACE_ENDS = ("vale", "ford", "ton", "by", "wick", "mouth", "field", "stead", "dale", "port")
# parts of words that no invented name should carry
_UNKIND = (
    "nig", "fag", "cun", "fuk", "tit", "naz", "kak", "pus", "sex", "gay", "jew", "kil", "die", "rap", "dik", "pen",
    "jeb", "fak", "pub", "puk", "dis", "anus", "pis", "bum", "but", "slut", "hor", "dum",
    "kok", "negr", "bast", "nude", "wank", "lus",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Four facts: where she lives, her work, the food she likes, the animal she keeps."""

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
    """A town, village or city: its side of the land, what it lies near, what it is known for."""

    name: str
    kind: str
    side: str
    near: str
    known_for: str


@dataclass(frozen=True)
class World:
    """Everything that is true. `people` and `places` are keyed by name."""

    seed: int
    people: dict[str, Person]
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
    """The world of a seed; the same seed gives the same world."""
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
        people[name] = Person(
            name, she, list(places)[index % PLACES], list(lexicon.JOBS)[rng.randrange(len(lexicon.JOBS))],
            rng.choice(lexicon.FOODS), rng.choice(list(lexicon.ANIMALS)),
        )  # fmt: skip
    return World(seed, people, places, _classes(people, places))


def _place_names(rng: Random, taken: set[str]) -> list[str]:
    starts, ends = list(_PLACE_STARTS), list(_PLACE_ENDS) * 2
    rng.shuffle(starts)
    rng.shuffle(ends)
    names = [start + end for start, end in zip(starts[:PLACES], ends[:PLACES], strict=True)]
    taken.update(name.lower() for name in names)
    return names


def _person_names(rng: Random, taken: set[str]) -> list[tuple[str, bool]]:
    """Pronounceable, apart from each other in their first three letters, half of them women's."""
    names: list[tuple[str, bool]] = []
    heads = {word[:3] for word in taken}
    while len(names) < PEOPLE:
        she = len(names) % 2 == 0
        stem = rng.choice(_ONSETS) + rng.choice("aeiou") + rng.choice(_MIDDLES)
        name = stem + rng.choice(_HER if she else _HIS)
        if stem[:3] in heads or name in taken or any(part in name for part in _UNKIND):
            continue
        if stem[:2] in ("wu", "ji", "vu", "wo", "zu"):
            continue
        heads.add(stem[:3])
        names.append((lexicon.capital(name), she))
    return names


# words of the language that the sounds of names could make by chance
_WORDS = """
    minor major canon motor tutor tumor donor human roman satan moron demon devil venus melon lemon baron felon
    salon talon token widen raven given riven seven haven heaven satin basin panel tunnel model novel level
    label mania mafia malaria media india tennis manis vulva saliva drama karma lama mama gala gonad kilo famen
    batus labor favor rumor vapor humor juror tenor razor laser later paper bonus focus lotus virus minus sinus
    tuna sofa soda saga data beta zeta delta dogma the she her his him they then there said says some soon
    street thank this with will was were when gain rain train brain
"""


def _common_words() -> set[str]:
    tables: tuple[Iterable[str], ...] = (
        lexicon.PLURALS, lexicon.SINGULARS, lexicon.FOODS, lexicon.COLOURS, lexicon.SPOTS, lexicon.GOOD, lexicon.BAD,
        lexicon.USE_WORDS, lexicon.OPPOSITES, lexicon.NUMBERS, lexicon.AVOID_WORDS, _WORDS.split(),
    )  # fmt: skip
    return {word for table in tables for word in table}


def _classes(people: dict[str, Person], places: dict[str, Place]) -> dict[str, tuple[str, str]]:
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
