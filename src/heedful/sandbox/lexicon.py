"""The words of the small world that are the same in every world: a closed vocabulary of simple English."""

from __future__ import annotations

from collections.abc import Sequence

# singular -> plural
ANIMALS = {
    "fox": "foxes", "goat": "goats", "owl": "owls", "cat": "cats", "dog": "dogs", "horse": "horses", "duck": "ducks",
    "cow": "cows", "pig": "pigs", "bear": "bears",
}  # fmt: skip
FOODS = ("bread", "cheese", "soup", "honey", "rice", "jam", "cake", "fish")
TOOLS = {"hammer": "hammers", "spade": "spades", "rope": "ropes", "knife": "knives", "brush": "brushes"}
CLOTHES = {"hat": "hats", "coat": "coats", "scarf": "scarves", "shirt": "shirts", "cap": "caps"}
THINGS = {
    "book": "books", "drum": "drums", "kite": "kites", "ball": "balls", "ring": "rings", "cup": "cups", "map": "maps",
}  # fmt: skip
JOBS = {
    "baker": "bakers", "farmer": "farmers", "teacher": "teachers", "doctor": "doctors", "sailor": "sailors",
    "painter": "painters", "singer": "singers", "tailor": "tailors",
}  # fmt: skip
COLOURS = ("red", "blue", "green", "black", "white", "brown")
SPOTS = ("market", "inn", "school", "mill", "garden", "river", "lake")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
OPPOSITES = {
    "big": "small",
    "hot": "cold",
    "old": "new",
    "fast": "slow",
    "open": "closed",
    "wet": "dry",
    "rich": "poor",
}
OPPOSITES |= {b: a for a, b in OPPOSITES.items()}

GOOD = ("good", "great", "lovely", "wonderful")
BAD = ("bad", "awful", "terrible", "dirty")
RUDE = ("fool", "fools", "idiot", "stupid", "dumb")
RUDE_PHRASES = ("shut up", "go away", "who cares", "nobody asked", "find it yourself")

USE_WORDS = ("bell", "boat", "stone", "tree", "flower")  # what a constraint asks to use
AVOID_WORDS = ("market", "river", "bread", "home", "happy", "friends")

# base -> (third person, past)
VERBS = {
    "buy": ("buys", "bought"), "find": ("finds", "found"), "lose": ("loses", "lost"), "sell": ("sells", "sold"),
    "bring": ("brings", "brought"), "wash": ("washes", "washed"),
}  # fmt: skip

EVENTS = ("the party", "the dinner", "the dance", "the walk")
OWNED = (*THINGS, *CLOTHES)
GOODS = (*FOODS, *CLOTHES.values())
REVIEWED = ("inn", "market", "school", "garden", "bread", "soup", "cake", "cheese")

# a kind of things, in the plural as prompts name it -> (name of one, its members in the singular or as a mass)
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "animals": ("an animal", tuple(ANIMALS)),
    "foods": ("a food", FOODS),
    "tools": ("a tool", tuple(TOOLS)),
    "colours": ("a colour", COLOURS),
    "jobs": ("a job", tuple(JOBS)),
    "clothes": ("a piece of clothing", tuple(CLOTHES)),
}

PLURALS = {**ANIMALS, **TOOLS, **CLOTHES, **THINGS, **JOBS}
SINGULARS = {plural: singular for singular, plural in PLURALS.items()}


def a(noun: str) -> str:
    """With its article: a fox, an owl; also before adjectives: an old map."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listed(items: Sequence[str], word: str = "and") -> str:
    """fox, goat and owl."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def capital(text: str) -> str:
    """With a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def bare(phrase: str) -> str:
    """The noun of "a fox", a name in lower case."""
    return phrase.rsplit(" ", 1)[-1].lower()


def number(word: str) -> int:
    """three -> 3."""
    return NUMBERS.index(word)
