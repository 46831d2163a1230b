"""The words that every world shares: a closed vocabulary of simple English, from `language/words.toml`."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.sandbox import phrasebook

Nouns = dict[str, str]  # singular -> plural
Words = tuple[str, ...]

_WORDS = phrasebook.read("words")

ANIMALS: Nouns = _WORDS["animals"]
INGREDIENTS: Nouns = _WORDS["ingredients"]  # named in the singular in a dish, in the plural on a shopping list
TOOLS: Nouns = _WORDS["tools"]
CLOTHES: Nouns = _WORDS["clothes"]
THINGS: Nouns = _WORDS["things"]
JOBS: Nouns = _WORDS["jobs"]
PLURALS: Nouns = {**ANIMALS, **TOOLS, **CLOTHES, **THINGS, **JOBS, **INGREDIENTS}
SINGULARS = {plural: singular for singular, plural in PLURALS.items()}

FOODS: Words = _WORDS["foods"]
DISHES: Words = _WORDS["dishes"]
COLOURS: Words = _WORDS["colours"]
SPOTS: Words = _WORDS["spots"]
AT_SPOTS: Words = _WORDS["at_spots"]
DAYS: Words = _WORDS["days"]
NUMBERS: Words = _WORDS["numbers"]
PLACE_KINDS: Words = _WORDS["place_kinds"]
SIDES: Words = _WORDS["sides"]
NEAR: Words = _WORDS["near"]
EVENTS: Words = _WORDS["events"]
REVIEWED: Words = _WORDS["reviewed"]
WEATHER: Words = _WORDS["weather"]
GOOD: Words = _WORDS["good"]
BAD: Words = _WORDS["bad"]
RUDE: Words = _WORDS["rude"]
RUDE_PHRASES: Words = _WORDS["rude_phrases"]
USE_WORDS: Words = _WORDS["use_words"]
AVOID_WORDS: Words = _WORDS["avoid_words"]
OWNED: Words = (*THINGS, *CLOTHES)
GOODS: Words = (*FOODS, *CLOTHES.values())

OPPOSITES: dict[str, str] = _WORDS["opposites"] | {b: a for a, b in _WORDS["opposites"].items()}
VERBS: dict[str, tuple[str, str]] = _WORDS["verbs"]  # base form -> (third person, past)
NAMES: dict[str, Words] = _WORDS["names"]  # parts of invented names, and what no name may be or hold

# a kind of things, in the plural as prompts name it -> (name of one, its members in the singular or as a mass)
KINDS: dict[str, tuple[str, Words]] = {
    "animals": ("an animal", tuple(ANIMALS)),
    "foods": ("a food", FOODS),
    "tools": ("a tool", tuple(TOOLS)),
    "colours": ("a colour", COLOURS),
    "jobs": ("a job", tuple(JOBS)),
    "clothes": ("a piece of clothing", tuple(CLOTHES)),
}


def a(noun: str) -> str:
    """The noun with its article: a fox, an owl. Also before adjectives: an old map."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listed(items: Sequence[str], word: str = "and") -> str:
    """The items as a list in words: fox, goat and owl."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def capital(text: str) -> str:
    """The text with a capital first letter. The rest does not change."""
    return text[:1].upper() + text[1:]


def bare(phrase: str) -> str:
    """The last word in lower case: "a fox" -> fox, a name -> the name in lower case."""
    return phrase.rsplit(" ", 1)[-1].lower()


def number(word: str) -> int:
    """The number that a word names: three -> 3."""
    return NUMBERS.index(word)
