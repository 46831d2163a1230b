"""The surface of a text: its words and sentences, whom and what it names, and how fluent it is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import pairwise
from operator import eq

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
    """Words in lower case (with apostrophes and hyphens) and single marks."""
    return [token.lower() for token in _TOKEN.findall(text)]


def sentences_of(tokens: list[str]) -> list[list[str]]:
    """Cut after each full stop, question mark or exclamation mark. A tail without one is a sentence too."""
    sentences: list[list[str]] = [[]]
    for token in tokens:
        sentences[-1].append(token)
        if token in _STOPS:
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


class Reading:
    """A text taken apart: tokens, number of words, sentences, and what it names.

    `flat`: the words with a space around each, to find phrases. `named`: (class, base form) of each word that the world
    knows. `shapes`: the sentences between "^" and "$". The class of a word replaces the word, if it has one.
    """

    def __init__(self, world: World, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.sentences = sentences_of(self.tokens)
        words = [token.removesuffix("'s") for token in self.tokens if token[0].isalpha()]
        self.n_words = len(words)
        self.flat = f" {' '.join(words)} "
        self.named = [world.classes[word] for word in words if word in world.classes]
        self.shapes = [_shape(world, sentence) for sentence in self.sentences]

    def has(self, phrase: str) -> bool:
        """Whether the phrase (lower case) occurs as whole words."""
        return f" {phrase} " in self.flat

    def has_any(self, phrases: Iterable[str]) -> bool:
        return any(f" {phrase} " in self.flat for phrase in phrases)

    def bases(self, classes: Collection[str]) -> list[str]:
        """The base forms of the named words of these classes, in order."""
        return [base for kind, base in self.named if kind in classes]

    @cached_property
    def repetition(self) -> float:
        """0 if the text says nothing twice, up to 1 for repeated sentences, repeated runs and doubled words."""
        if not self.sentences:
            return 0.0
        tokens = self.tokens
        fresh = len({" ".join(sentence) for sentence in self.sentences}) / len(self.sentences)
        echoes = sum(map(eq, tokens, tokens[1:]))
        runs = list(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
        again = 1.0 - len(set(runs)) / len(runs) if runs else 0.0
        return 1.0 - fresh * (1.0 - 0.25 * min(4, echoes)) * (1.0 - min(1.0, 1.5 * max(0.0, again - 0.1)))

    @property
    def hasty(self) -> float:
        """0 for a capital at the start and a mark at the end, 1 for neither."""
        if not self.tokens:
            return 0.0
        return 0.4 * self.text.lstrip()[:1].islower() + 0.6 * (self.tokens[-1] not in _STOPS)


def read(world: World, text: str) -> Reading:
    return Reading(world, text)


def is_rude(reading: Reading) -> bool:
    return reading.has_any(RUDE) or reading.has_any(RUDE_PHRASES)


class Fluency:
    """The pairs and triples of words that occur in good texts. Words of a class count as the same word.

    Triples are also stored by genre. So the truth can tell which sentences belong to another genre.
    """

    def __init__(self) -> None:
        self.pairs: set[tuple[str, ...]] = set()
        self.triples: set[tuple[str, ...]] = set()
        self.triples_of: dict[str, set[tuple[str, ...]]] = {}

    def add(self, world: World, text: str, genre: str) -> None:
        known = self.triples_of.setdefault(genre, set())
        for shape in read(world, text).shapes:
            self.pairs.update(pairwise(shape))
            known.update(_triples(shape))
        self.triples |= known

    def stray(self, reading: Reading, genre: str) -> float:
        """The share of sentences that have less than half of their triples from the genre."""
        known = self.triples_of[genre]
        rows = [_triples(shape) for shape in reading.shapes]
        return sum(len(known.intersection(row)) < 0.5 * len(set(row)) for row in rows) / max(1, len(rows))

    def score(self, reading: Reading) -> float:
        """1 for text that has known shapes only and does not repeat itself, down to 0."""
        if not reading.n_words:
            return 0.0
        odd = total = 0
        for shape in reading.shapes:
            odd += sum(pair not in self.pairs for pair in pairwise(shape))
            odd += sum(triple not in self.triples for triple in _triples(shape))
            total += 2 * len(shape) - 3
        for first, second in pairwise(reading.tokens):
            odd += 2 * (first in ("a", "an") and (first == "an") != (second[0] in "aeiou"))
        return max(0.0, 1.0 - 2.0 * odd / (total + 4)) * (1.0 - reading.repetition)


# words of these classes look alike to `Fluency`
_ONE = ("animal", "tool", "thing", "clothes", "job", "ingredient")
_ALIKE = {**dict.fromkeys(_ONE, "one"), **{f"{kind}s": "many" for kind in _ONE}}


def _shape(world: World, sentence: list[str]) -> tuple[str, ...]:
    shape = ["^"]
    for word in sentence:
        kind = "kind" if word in KINDS else world.classes.get(word, ("use",))[0]
        shape.append(word if kind == "use" else f"<{_ALIKE.get(kind, kind)}>")
    return (*shape, "$")


def _triples(shape: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(zip(shape, shape[1:], shape[2:], strict=False))
