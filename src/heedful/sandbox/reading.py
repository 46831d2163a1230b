"""What a text says on its surface: words, sentences, whom and what it names, and how fluent it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from heedful.sandbox.lexicon import KINDS, RUDE, RUDE_PHRASES
from heedful.sandbox.world import World

_TOKEN = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*|[.!?]|[^\sA-Za-z]")
_STOPS = {".", "!", "?"}
BEINGS = frozenset({"person", "animal", "animals", "job", "jobs"})
NAMED = frozenset(
    {"person", "place", "animal", "animals", "job", "jobs", "food", "ingredient", "ingredients", "tool", "tools"}
    | {"thing", "things", "clothes", "clothess", "colour", "spot", "day"}
)


def tokens_of(text: str) -> list[str]:
    """Lower-case words (with apostrophes and hyphens) and single marks."""
    return [token.lower() for token in _TOKEN.findall(text)]


def sentences_of(tokens: list[str]) -> list[list[str]]:
    """Cut after each full stop, question or exclamation mark; a tail without one is a sentence too."""
    sentences: list[list[str]] = [[]]
    for token in tokens:
        sentences[-1].append(token)
        if token in _STOPS:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


@dataclass(frozen=True)
class Reading:
    """A text taken apart. `flat` is its words with single spaces around each, for finding phrases."""

    text: str
    tokens: list[str]
    sentences: list[list[str]]
    flat: str
    named: list[tuple[str, str]]  # (class, base form) of each word the world knows
    n_words: int

    def has(self, phrase: str) -> bool:
        """Whether the phrase (lower case) occurs as whole words."""
        return f" {phrase} " in self.flat

    def has_any(self, phrases: Iterable[str]) -> bool:
        return any(f" {phrase} " in self.flat for phrase in phrases)

    def bases(self, classes: Iterable[str]) -> list[str]:
        wanted = set(classes)
        return [base for kind, base in self.named if kind in wanted]


def read(world: World, text: str) -> Reading:
    tokens = tokens_of(text)
    words = [token for token in tokens if token[0].isalpha()]
    named = []
    for word in words:
        word = word.removesuffix("'s")
        if word in world.classes:
            named.append(world.classes[word])
    flat = f" {' '.join(word.removesuffix(chr(39) + 's') for word in words)} "
    return Reading(text, tokens, sentences_of(tokens), flat, named, len(words))


def is_rude(reading: Reading) -> bool:
    return reading.has_any(RUDE) or reading.has_any(RUDE_PHRASES)


class Fluency:
    """Which sequences of words good texts have, with the words of a kind taken as one: two and three in a row.

    Three in a row are known by genre too, so that a sentence can be told from one that belongs elsewhere.
    """

    def __init__(self) -> None:
        self.pairs: set[tuple[str, ...]] = set()
        self.triples: set[tuple[str, ...]] = set()
        self.triples_of: dict[str, set[tuple[str, ...]]] = {}

    def add(self, world: World, text: str, genre: str) -> None:
        for sentence in sentences_of(tokens_of(text)):
            shape = _shape(world, sentence)
            self.pairs.update(pairwise(shape))
            self.triples.update(_triples(shape))
            self.triples_of.setdefault(genre, set()).update(_triples(shape))

    def stray(self, world: World, reading: Reading, genre: str) -> float:
        """The share of sentences less than half of which sounds like the genre."""
        known = self.triples_of[genre]
        triples = [_triples(_shape(world, sentence)) for sentence in reading.sentences]
        strays = sum(sum(triple in known for triple in row) < 0.5 * len(row) for row in triples)
        return strays / len(triples) if triples else 0.0

    def score(self, world: World, reading: Reading) -> float:
        """1 for text made of known shapes that ends properly and does not go round in circles; 0 for none of it."""
        if not reading.n_words:
            return 0.0
        odd = total = 0
        for sentence in reading.sentences:
            shape = _shape(world, sentence)
            odd += sum(pair not in self.pairs for pair in pairwise(shape))
            odd += sum(triple not in self.triples for triple in _triples(shape))
            for first, second in pairwise(sentence):
                if first in ("a", "an"):
                    odd += 2 * ((first == "an") != (second[0] in "aeiou"))
            total += 2 * len(shape) - 3
        known = max(0.0, 1.0 - 2.0 * odd / (total + 4))
        if reading.tokens[-1] not in _STOPS:
            known *= 0.7
        if reading.text.lstrip()[:1].islower():
            known *= 0.9
        return known * freshness(reading)


def _shape(world: World, sentence: list[str]) -> list[str]:
    """The words between marks of begin and end, those of a kind replaced by the kind."""
    shape = ["^"]
    for word in sentence:
        kind = "kind" if word in KINDS else world.classes.get(word, ("",))[0]
        shape.append(f"<{_ALIKE.get(kind, kind)}>" if kind and kind != "use" else word)
    return [*shape, "$"]


def _triples(shape: list[str]) -> list[tuple[str, ...]]:
    return list(zip(shape, shape[1:], shape[2:], strict=False))


_ONE, _MANY = ("animal", "tool", "thing", "clothes", "job", "ingredient"), "many"
_ALIKE = {**dict.fromkeys(_ONE, "one"), **{f"{kind}s": _MANY for kind in _ONE}}


def freshness(reading: Reading) -> float:
    """1 where nothing is said twice; sentences that return and words that repeat at once take from it."""
    if not reading.sentences:
        return 0.0
    seen = [" ".join(sentence) for sentence in reading.sentences]
    share = len(set(seen)) / len(seen)
    tokens = reading.tokens
    echoes = sum(x == y for x, y in pairwise(tokens))
    triples = list(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
    again = 1.0 - len(set(triples)) / len(triples) if triples else 0.0
    return max(0.0, share * (1.0 - 0.25 * min(4, echoes)) * (1.0 - min(1.0, 1.5 * again)))
