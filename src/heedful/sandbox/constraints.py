"""Explicit constraints (D6): how prompts ask for them, whether an answer meets them, how a good answer does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from heedful.sandbox import genres, lexicon, phrasebook
from heedful.sandbox.goals import Items
from heedful.sandbox.reading import Reading

_ASKED = phrasebook.read("prompts")["constraints"]
STARTS: tuple[str, ...] = _ASKED["starts"]
ENDS: tuple[str, ...] = _ASKED["ends"]
_PHRASINGS: dict[str, tuple[str, ...]] = _ASKED["phrasings"]
_ONE_SENTENCE: tuple[str, ...] = _ASKED["one_sentence"]


@dataclass(frozen=True)
class Constraint:
    """A kind of constraint and what it asks for: a word, words to start or end with, or a number in words."""

    kind: str
    x: str = ""

    def phrase(self, rng: Random) -> str:
        """The constraint as a prompt says it."""
        if self.kind == "sentences" and self.x == "one":
            return rng.choice(_ONE_SENTENCE)
        return rng.choice(_PHRASINGS[self.kind]).format(x=self.x)

    def met(self, reading: Reading, goal: object) -> bool:
        """Whether the completion does what the constraint asks. `goal` says what counts as an item."""
        if not reading.n_words:
            return False
        match self.kind:
            case "start":
                return reading.text.lstrip().lower().startswith(self.x.lower())
            case "end":
                return reading.text.rstrip(" .!?\n").lower().endswith(" " + self.x)
            case "use":
                return reading.has(self.x)
            case "avoid":
                return not reading.has(self.x) and self.x not in {base for _, base in reading.named}
            case "sentences":
                return len(reading.sentences) == lexicon.number(self.x)
            case "words":
                return reading.n_words <= lexicon.number(self.x)
            case "word":
                return reading.n_words <= (2 if reading.tokens[0] in ("a", "an", "the") else 1)
        assert self.kind == "exactly"
        assert isinstance(goal, Items)
        return len({base for _, base in reading.named if base in goal.pool}) == lexicon.number(self.x)

    def without(self, text: str) -> str:
        """The completion without the words that it had to start or end with. The truth judges the rest alone."""
        text = text.strip()
        if self.kind == "start" and text.lower().startswith(self.x.lower()):
            return text[len(self.x) :].lstrip()
        if self.kind == "end":
            return re.sub(rf"(?<=[.!?]) +{self.x}[.!]?$", "", text, flags=re.IGNORECASE)
        return text

    def apply(self, sentences: list[str], value: str | None, carrier: str) -> str:
        """Join sentences into an answer that tries to meet the constraint. If it fails, the caller tries again."""
        match self.kind:
            case "start":
                return " ".join([self.x, *sentences])
            case "end":
                return " ".join([*sentences, lexicon.capital(self.x) + "."])
            case "use":
                last = sentences[-1:] if len(sentences) > 1 else []
                return " ".join([*sentences[: len(sentences) - len(last)], carrier.format(word=self.x), *last])
            case "sentences":
                return " ".join(_cut(sentences, lexicon.number(self.x)))
            case "word" if value is not None:
                return lexicon.capital(value) + "."
        return " ".join(sentences)


def _cut(sentences: list[str], count: int) -> list[str]:
    """At most `count` sentences, the last of them the last of all. A story of one keeps its opening and its ending."""
    parts = [part for sentence in sentences for part in re.findall(r"[^.!?]+[.!?]", sentence)]
    parts = [part.strip() for part in parts]
    if len(parts) <= count:
        return parts
    if count == 1:
        story = parts[0].lower().startswith(genres.STORY_OPENS)
        return [genres.one_line(parts)] if story else parts[:1]
    return [*parts[: count - 1], parts[-1]]


def draw(
    kinds: tuple[str, ...], pool: tuple[str, ...], taken: frozenset[str], number: str, rng: Random
) -> Constraint | None:
    """Draw a constraint of one of the kinds, or None if the drawn one does not fit.

    `pool`: words that it may forbid. `taken`: words that the task needs. `number`: how many items the task wants.
    """
    kind = rng.choice(kinds)
    choices = {
        "start": STARTS, "end": ENDS, "use": lexicon.USE_WORDS, "avoid": pool, "sentence": ("one",),
        "sentences": ("one", "one", "two", "three"), "words": ("eight", "ten", "twelve"), "word": ("",),
        "exactly": (number,),
    }  # fmt: skip
    x = rng.choice(choices[kind])
    if kind == "avoid" and x in taken:
        return None
    return Constraint("sentences" if kind == "sentence" else kind, x)


def fits(constraint: Constraint, kinds: tuple[str, ...]) -> bool:
    """Whether `draw` could give the constraint for the kinds."""
    return constraint.kind in kinds or (constraint == Constraint("sentences", "one") and "sentence" in kinds)


def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """A pattern for each phrasing, with the kind of constraint, and the number where the phrasing has it fixed."""
    shapes = {"use": "[a-z]+", "avoid": "[a-z]+", "start": "|".join(map(re.escape, STARTS)), "end": "|".join(ENDS)}
    found = [(re.compile(re.escape(phrase)), "sentences one") for phrase in _ONE_SENTENCE]
    for kind, phrasings in _PHRASINGS.items():
        for phrase in phrasings:
            before, _, after = phrase.partition("{x}")
            shape = shapes.get(kind, "|".join(lexicon.NUMBERS))
            slot = f"({shape})" if "{x}" in phrase else ""
            found.append((re.compile(re.escape(before) + slot + re.escape(after)), kind))
    return found


_PARSERS = _patterns()


def cut_off(text: str) -> list[tuple[Constraint, str]]:
    """All readings of a constraint at the start or end of a prompt, each with the rest of the prompt."""
    found = []
    for pattern, kind in _PARSERS:
        for match in pattern.finditer(text):
            if match.end() == len(text):
                rest = text[: match.start()].rstrip()
            elif match.start() == 0:
                rest = text[match.end() :].lstrip()
            else:
                continue
            name, _, fixed = kind.partition(" ")
            found.append((Constraint(name, fixed or (match[1] if match.groups() else "")), rest))
    return found
