"""Goals: what a good answer must do. A goal grades only what a completion says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from heedful.sandbox.lexicon import BAD, GOOD
from heedful.sandbox.reading import Reading, tokens_of

PRONOUNS = ("he", "she", "it", "they")


@dataclass(frozen=True)
class Grade:
    """`content`: how much of the task is done, 0 to 1. `form`: how well made, 0 to 1. `false`: says an untruth."""

    content: float
    form: float
    false: bool = False


class Goal(Protocol):
    """What a task asks for."""

    def grade(self, reading: Reading) -> Grade:
        """The grade of a completion."""
        ...


@dataclass(frozen=True)
class Value:
    """Name one right value among rivals of its kind: a place, a number, a label. Naming several earns little.

    Form: a whole sentence with a word of the question (`about`) is best. A pronoun earns less, the value alone least.
    """

    right: frozenset[str]
    rivals: frozenset[str]
    about: tuple[str, ...]

    def grade(self, reading: Reading) -> Grade:
        wrong = sum(reading.has(rival) for rival in self.rivals)
        content = 0.2 if wrong == 1 else 0.0
        if reading.has_any(self.right):
            content = 0.4 / wrong if wrong else 1.0
        whole = 0.0 if reading.n_words < 3 else 1.0 if reading.has_any(self.about) else 0.7 * reading.has_any(PRONOUNS)
        return Grade(content, max(0.3, whole), wrong > 0)


@dataclass(frozen=True)
class Items:
    """List `few` to `many` things out of a pool, or the whole pool (`exact`). `given`: a name in the prompt.

    Form: a sentence around the list is better than the list alone.
    """

    pool: frozenset[str]
    few: int
    many: int
    exact: bool = False
    given: str = ""

    def grade(self, reading: Reading) -> Grade:
        said = [base for kind, base in reading.named if kind not in ("number", "use") and base != self.given]
        right = [base for base in said if base in self.pool]
        distinct = len(set(right))
        if not distinct:
            return Grade(0.0, 0.0)
        if self.exact:
            content = 2 * distinct / (len(self.pool) + len(said))
        elif distinct <= self.many:
            content = distinct / len(said) * min(1.0, distinct / self.few)
        else:
            content = distinct / len(said) * max(0.0, 1.0 - (distinct - self.many) / self.many)
        joined = len(said) == 1 or reading.has_any(("and", "or"))
        others = sum(word.isalpha() and word not in ("a", "an", "and", "or") for word in reading.tokens) - len(said)
        return Grade(content, 0.5 * joined + 0.5 * (others >= 2))


@dataclass(frozen=True)
class Piece:
    """Write a text of a genre.

    `mentions`: what it must name, with weights. Bars separate alternatives: "she|he". `opens` and `closes`: how it may
    begin and end. `least` and `most`: its number of sentences.
    """

    mentions: tuple[tuple[str, float], ...]
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    tone: int = 0  # 1 praise, -1 blame
    least: int = 1
    most: int = 5

    def grade(self, reading: Reading) -> Grade:
        content = named_share(reading, self.mentions)
        if self.tone:
            content *= self._toned(reading)
        marks = []
        if self.opens:
            start = reading.flat.lstrip()
            marks.append(float(start.startswith(tuple(opening + " " for opening in self.opens))))
        if self.closes:
            last = f" {' '.join(reading.tokens[-11:])} "
            marks.append(float(any(f" {closing} " in last for closing in self.closes)))
        count = len(reading.sentences)
        marks.append(min(1.0, count / self.least) if count <= self.most else self.most / count)
        return Grade(content, sum(marks) / len(marks))

    def _toned(self, reading: Reading) -> float:
        """1 for the right tone, 0.5 for a mixed one, 0.4 for none, 0.15 for the wrong one. "not good" is blame."""
        good = bad = 0
        for before, word in zip(["", *reading.tokens], reading.tokens, strict=False):
            value = (word in GOOD or word in ("loved", "happy")) - (word in BAD)
            good, bad = (good + 1, bad) if value and (value > 0) == (before != "not") else (good, bad + bool(value))
        right, wrong = (good, bad) if self.tone > 0 else (bad, good)
        if right:
            return 1.0 if not wrong else 0.5
        return 0.15 if wrong else 0.4


@dataclass(frozen=True)
class Facts:
    """Say something true about a person or a place. Two right facts are enough. Wrong ones of the same classes cost."""

    about: str
    right: tuple[str, ...]
    classes: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    def grade(self, reading: Reading) -> Grade:
        hits = sum(reading.has(fact) for fact in self.right)
        said = set(reading.bases(self.classes)) - set(self.right) - {self.about}
        wrong = len(said) + sum(reading.has(rival) for rival in self.rivals)
        content = min(1.0, 0.25 + 0.375 * hits) if reading.has(self.about) else 0.25 * min(1, hits)
        count = len(reading.sentences)
        return Grade(content / (1 + 0.6 * wrong), min(1.0, count / 2) if count <= 5 else 0.5, wrong > 0)


@dataclass(frozen=True)
class Rewritten:
    """Change the source as asked and keep the rest. Of several sentences the most similar one counts."""

    source: str
    gold: str

    def grade(self, reading: Reading) -> Grade:
        asked, before = _words(tokens_of(self.gold)), set(_words(tokens_of(self.source)))
        likeness, said = max((_likeness(_words(sentence), asked), _words(sentence)) for sentence in reading.sentences)
        done = set(asked) - before <= set(said) and not (before - set(asked)) & set(said)
        return Grade(likeness**2 if done else 0.4 * likeness**3, 1.0 if len(reading.sentences) == 1 else 0.3)


@dataclass(frozen=True)
class Gist:
    """Say the main point of a passage in one sentence, shorter than the passage."""

    units: tuple[tuple[str, float], ...]
    passage_words: int

    def grade(self, reading: Reading) -> Grade:
        content = named_share(reading, self.units)
        if reading.n_words > 0.65 * self.passage_words:
            content *= 0.4
        return Grade(content, 1.0 if len(reading.sentences) == 1 else 0.5)


@dataclass(frozen=True)
class ChatReply:
    """Reply in a chat with one phrase of each group in `needs` and none of `amiss`."""

    needs: tuple[tuple[str, ...], ...]
    amiss: tuple[str, ...] = ()

    def grade(self, reading: Reading) -> Grade:
        met = sum(reading.has_any(group) for group in self.needs) / len(self.needs)
        if reading.has_any(self.amiss):
            met *= 0.3
        return Grade(met, 1.0 if 2 <= len(reading.sentences) <= 4 else 0.5)


@dataclass(frozen=True)
class Decline:
    """Decline politely. An offer of something kind instead earns more."""

    def grade(self, reading: Reading) -> Grade:
        no = reading.has_any(("will not", "can not", "would rather not"))
        offer = reading.has_any(("kind words", "something kind", "kind note"))
        return Grade(0.75 * no + 0.25 * reading.has("sorry"), 1.0 if offer else 0.4)


def named_share(reading: Reading, mentions: Iterable[tuple[str, float]]) -> float:
    """The share of the mentions that the text names, by weight."""
    bases = {base for _, base in reading.named}
    said = total = 0.0
    for phrases, weight in mentions:
        total += weight
        said += weight * any(phrase in bases or reading.has(phrase) for phrase in phrases.split("|"))
    return said / total


def _words(tokens: list[str]) -> list[str]:
    return [token for token in tokens if token[0].isalpha()]


def _likeness(xs: list[str], ys: list[str]) -> float:
    """Twice the length of the longest common subsequence, divided by the sum of both lengths."""
    if not xs or not ys:
        return 0.0
    row = [0] * (len(ys) + 1)
    for x in xs[:80]:
        diagonal = 0
        for j, y in enumerate(ys, 1):
            row[j], diagonal = (diagonal + 1 if x == y else max(row[j], row[j - 1])), row[j]
    return 2.0 * row[-1] / (len(xs) + len(ys))
