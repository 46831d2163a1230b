"""What a good answer must do, and how far a given one does it. Each goal grades what a completion says, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from heedful.sandbox.lexicon import BAD, GOOD
from heedful.sandbox.reading import Reading, tokens_of

PRONOUNS = ("he", "she", "it", "they", "him", "her", "his")


@dataclass(frozen=True)
class Grade:
    """`content`: does what was asked, 0 to 1. `form`: well made, 0 to 1. `false`: says something untrue."""

    content: float
    form: float
    false: bool = False


class Goal(Protocol):
    def grade(self, reading: Reading) -> Grade: ...


@dataclass(frozen=True)
class Value:
    """One right value among rivals of its kind: a place, a number, a label. Naming several earns little."""

    right: frozenset[str]
    rivals: frozenset[str]
    about: tuple[str, ...] = ()  # words of the question that a whole sentence repeats

    def grade(self, reading: Reading) -> Grade:
        hit = reading.has_any(self.right)
        wrong = sum(reading.has(rival) for rival in self.rivals)
        if hit:
            content = 1.0 if not wrong else 0.45 / wrong
        else:
            content = {0: 0.0, 1: 0.2}.get(wrong, 0.0)
        whole = reading.n_words >= 3 and (reading.has_any(self.about) or reading.has_any(PRONOUNS))
        return Grade(content, 1.0 if whole else 0.4, wrong > 0)


@dataclass(frozen=True)
class Items:
    """A list of things of a kind; `exactly` those (extract) or any of the pool, `few` to `many` of them."""

    pool: frozenset[str]
    few: int
    many: int
    exactly: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()  # named in the prompt, no fault to repeat

    def grade(self, reading: Reading) -> Grade:
        said = [base for kind, base in reading.named if kind not in ("number", "use") and base not in self.given - self.pool]
        right = [base for base in said if base in (self.exactly or self.pool)]
        distinct, wrong = len(set(right)), len(said) - len(right)
        if not distinct:
            return Grade(0.0, 0.0, bool(self.exactly) and wrong > 0)
        precision = distinct / len(said)
        if self.exactly:
            content = 2 * distinct / (len(self.exactly) + len(said))
        elif distinct < self.few:
            content = precision * distinct / self.few
        else:
            content = precision * max(0.0, 1.0 - (max(distinct, self.many) - self.many) / self.many)
        joined = distinct == 1 or reading.has("and") or reading.has("or")
        return Grade(content, 1.0 if joined else 0.5, bool(self.exactly) and wrong > 0)


@dataclass(frozen=True)
class Piece:
    """A text of a genre: what it must name (with weights), how it opens and closes, its tone and least size."""

    mentions: tuple[tuple[str, float], ...]
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    tone: int = 0  # 1 praise, -1 blame
    least: int = 1  # sentences
    most: int = 9

    def grade(self, reading: Reading) -> Grade:
        bases = {base for _, base in reading.named}
        total = sum(weight for _, weight in self.mentions)
        content = sum(w for phrase, w in self.mentions if phrase in bases or reading.has(phrase)) / total
        if self.tone:
            content *= self._tone(reading)
        marks = []
        if self.opens:
            start = reading.flat.lstrip()
            marks.append(float(start.startswith(tuple(opening + " " for opening in self.opens))))
        if self.closes:
            last = f" {' '.join(reading.tokens[-12:])} "
            marks.append(float(any(f" {closing} " in last for closing in self.closes)))
        count = len(reading.sentences)
        marks.append(min(1.0, count / self.least) if count <= self.most else 0.5)
        return Grade(content, sum(marks) / len(marks))

    def _tone(self, reading: Reading) -> float:
        good = bad = 0
        tokens = reading.tokens
        for index, token in enumerate(tokens):
            value = (token in GOOD or token in ("loved", "happy")) - (token in BAD)
            if value and index and tokens[index - 1] == "not":
                value = -value
            good, bad = good + (value > 0), bad + (value < 0)
        if self.tone < 0:
            good, bad = bad, good
        if good and not bad:
            return 1.0
        return 0.5 if good >= bad else 0.15


@dataclass(frozen=True)
class Facts:
    """Something true about somebody or a place: two right facts are enough, wrong ones of the same kinds spoil it."""

    about: str
    right: tuple[str, ...]
    kinds: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    def grade(self, reading: Reading) -> Grade:
        hits = sum(reading.has(fact) for fact in self.right)
        said = set(reading.bases(self.kinds)) - set(self.right) - {self.about}
        wrong = len(said) + sum(reading.has(rival) for rival in self.rivals)
        named = reading.has(self.about)
        content = min(1.0, 0.25 + 0.375 * hits) if named else 0.25 * min(1, hits)
        return Grade(content / (1 + 0.6 * wrong), min(1.0, len(reading.sentences) / 2), wrong > 0)


@dataclass(frozen=True)
class Rewritten:
    """The source changed as asked, and otherwise kept."""

    source: str
    golds: tuple[str, ...]

    def grade(self, reading: Reading) -> Grade:
        words = [token for token in reading.tokens if token[0].isalpha()]
        best, best_gold = 0.0, self.golds[0]
        for gold in self.golds:
            likeness = _likeness(words, _words(gold))
            if likeness > best:
                best, best_gold = likeness, gold
        asked, before = set(_words(best_gold)), set(_words(self.source))
        said = set(words)
        done = (asked - before) <= said and not (before - asked) & said
        return Grade(best**2 if done else 0.4 * best**3, 1.0 if len(reading.sentences) == 1 else 0.3)


@dataclass(frozen=True)
class Gist:
    """The main point of a passage, shorter than the passage."""

    units: tuple[tuple[str, float], ...]
    passage_words: int

    def grade(self, reading: Reading) -> Grade:
        bases = {base for _, base in reading.named}
        content = sum(weight for phrase, weight in self.units if phrase in bases or reading.has(phrase))
        if reading.n_words > 0.65 * self.passage_words:
            content *= 0.4
        return Grade(content, 1.0 if len(reading.sentences) == 1 else 0.5)


@dataclass(frozen=True)
class Reply:
    """A turn of a chat: each group of phrases has to be met by one of its phrases; some would be out of place."""

    needs: tuple[tuple[str, ...], ...]
    amiss: tuple[str, ...] = ()

    def grade(self, reading: Reading) -> Grade:
        met = sum(reading.has_any(group) for group in self.needs) / len(self.needs)
        if reading.has_any(self.amiss):
            met *= 0.3
        return Grade(met, 1.0 if reading.n_words >= 6 and len(reading.sentences) <= 3 else 0.5)


@dataclass(frozen=True)
class Decline:
    """A polite no; better with an offer of something kind instead."""

    def grade(self, reading: Reading) -> Grade:
        no = reading.has_any(("will not", "can not", "cannot", "would rather not"))
        sorry = reading.has("sorry")
        offer = reading.has_any(("can help you", "kind words", "help you with"))
        return Grade(0.75 * no + 0.25 * sorry, 1.0 if offer else 0.4)


def _words(text: str) -> list[str]:
    return [token for token in tokens_of(text) if token[0].isalpha()]


def _likeness(xs: list[str], ys: list[str]) -> float:
    """Twice the longest common subsequence over both lengths."""
    if not xs or not ys:
        return 0.0
    row = [0] * (len(ys) + 1)
    for x in xs[:80]:
        diagonal = 0
        for j, y in enumerate(ys, 1):
            row[j], diagonal = (diagonal + 1 if x == y else max(row[j], row[j - 1])), row[j]
    return 2.0 * row[-1] / (len(xs) + len(ys))
