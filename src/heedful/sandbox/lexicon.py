"""The words of the small world that are the same in every world: a closed vocabulary of simple English."""

from __future__ import annotations

from collections.abc import Sequence

# singular -> plural
ANIMALS = {
    "fox": "foxes", "goat": "goats", "owl": "owls", "cat": "cats", "dog": "dogs", "horse": "horses", "duck": "ducks",
    "hen": "hens", "cow": "cows", "pig": "pigs", "bear": "bears", "frog": "frogs", "crow": "crows", "hare": "hares",
    "bee": "bees", "eagle": "eagles", "rabbit": "rabbits", "donkey": "donkeys",
}  # fmt: skip
FOODS = ("bread", "cheese", "soup", "honey", "rice", "butter", "jam", "cake", "fish", "milk", "corn", "salad", "pie")
# what a dish is made of: name in the dish -> name on the shopping list
INGREDIENTS = {
    "carrot": "carrots", "onion": "onions", "bean": "beans", "apple": "apples", "plum": "plums", "pear": "pears",
    "potato": "potatoes", "nut": "nuts",
}  # fmt: skip
DISHES = ("soup", "pie", "salad", "cake")
TOOLS = {
    "hammer": "hammers", "saw": "saws", "spade": "spades", "rope": "ropes", "knife": "knives", "needle": "needles",
    "axe": "axes", "ladder": "ladders", "brush": "brushes", "bucket": "buckets", "rake": "rakes",
}  # fmt: skip
CLOTHES = {
    "hat": "hats", "coat": "coats", "scarf": "scarves", "shirt": "shirts", "belt": "belts", "dress": "dresses",
    "cap": "caps", "cloak": "cloaks",
}  # fmt: skip
THINGS = {
    "book": "books", "drum": "drums", "flute": "flutes", "kite": "kites", "ball": "balls", "ring": "rings",
    "cup": "cups", "map": "maps", "basket": "baskets", "candle": "candles", "chair": "chairs", "clock": "clocks",
}  # fmt: skip
JOBS = {
    "baker": "bakers", "farmer": "farmers", "teacher": "teachers", "doctor": "doctors", "sailor": "sailors",
    "painter": "painters", "singer": "singers", "cook": "cooks", "builder": "builders", "gardener": "gardeners",
    "tailor": "tailors", "miller": "millers", "writer": "writers", "guard": "guards",
}  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "brown", "grey", "orange", "pink")
SPOTS = ("market", "inn", "school", "mill", "bridge", "harbour", "garden", "forest", "river", "lake", "barn", "square")
AT_SPOTS = SPOTS[:6]  # one can be at these; one is near the others
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
)  # fmt: skip
OPPOSITES = {
    "big": "small", "hot": "cold", "old": "new", "fast": "slow", "day": "night", "open": "closed", "wet": "dry",
    "high": "low", "happy": "sad", "rich": "poor", "full": "empty", "early": "late",
}  # fmt: skip
OPPOSITES |= {b: a for a, b in OPPOSITES.items()}

PLACE_KINDS = ("town", "village", "city")
SIDES = ("north", "south", "east", "west")
NEAR = ("by the river", "near the sea", "on a hill", "by the lake", "in the forest")

# what fits anything first, then what only food is
GOOD = ("good", "great", "lovely", "wonderful", "fresh", "warm")
BAD = ("bad", "awful", "terrible", "dirty", "stale", "sour")
RUDE = ("fool", "fools", "idiot", "idiots", "stupid", "dumb", "ugly")
RUDE_PHRASES = ("shut up", "go away", "who cares", "nobody asked", "find it yourself", "not my problem")

USE_WORDS = ("bell", "boat", "stone", "tree", "flower", "bench", "lamp", "tent")  # what a constraint asks to use
AVOID_WORDS = ("market", "river", "bread", "money", "rain", "home", "friend", "friends", "happy", "hungry")

# base -> (third person, past)
VERBS = {
    "buy": ("buys", "bought"), "find": ("finds", "found"), "lose": ("loses", "lost"), "sell": ("sells", "sold"),
    "see": ("sees", "saw"), "carry": ("carries", "carried"), "bring": ("brings", "brought"), "make": ("makes", "made"),
    "wash": ("washes", "washed"), "paint": ("paints", "painted"),
}  # fmt: skip

EVENTS = ("the party", "the dinner", "the dance", "the meeting", "the wedding", "the boat race", "the walk")
OWNED = (*THINGS, *CLOTHES)
GOODS = (*FOODS, *CLOTHES.values())
REVIEWED = ("inn", "market", "school", "garden", "bread", "soup", "cake", "cheese", "pie", "fish")

# a kind of things, in the plural as prompts name it -> (name of one, its members in the singular or as a mass)
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "animals": ("an animal", tuple(ANIMALS)),
    "foods": ("a food", FOODS),
    "tools": ("a tool", tuple(TOOLS)),
    "colours": ("a colour", COLOURS),
    "jobs": ("a job", tuple(JOBS)),
    "clothes": ("a piece of clothing", tuple(CLOTHES)),
}

PLURALS = {**ANIMALS, **TOOLS, **CLOTHES, **THINGS, **JOBS, **INGREDIENTS}
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
