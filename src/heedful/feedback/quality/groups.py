"""Where groups of labelers want opposite things. Such items are shown, never averaged away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heedful.feedback.quality.types import Judgement, Key


@dataclass(frozen=True)
class Votes:
    """Judgements of one group on a pair of completions."""

    group: str
    first: int
    second: int
    ties: int

    @property
    def leaning(self) -> int:
        """1 where most who take a side prefer the first, -1 the second, 0 neither."""
        return (self.first > self.second) - (self.first < self.second)


@dataclass(frozen=True)
class Split:
    """A pair of completions of an item about which two groups lean opposite ways."""

    item: Key
    pair: tuple[int, int]
    one: Votes
    other: Votes

    @property
    def strength(self) -> int:
        """Judgements that would have to turn for the groups to agree: the smaller of the two margins."""
        return min(abs(self.one.first - self.one.second), abs(self.other.first - self.other.second))


def votes(judgements: Iterable[Judgement]) -> dict[tuple[Key, tuple[int, int]], list[Votes]]:
    """How each group judged each pair of completions of each item."""
    raise NotImplementedError


def opposed(judgements: Iterable[Judgement], *, least: int = 1) -> list[Split]:
    """Pairs about which two groups lean opposite ways, each with at least `least` judgements; the strongest first."""
    raise NotImplementedError
