"""Pairs of completions on which groups of labelers want opposite things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from heedful.feedback.quality.types import ItemKey, Judgement, latest


@dataclass(frozen=True)
class Votes:
    """Judgements of one group on a pair of completions."""

    group: str
    first: int
    second: int
    ties: int

    @property
    def total(self) -> int:
        return self.first + self.second + self.ties

    @property
    def leaning(self) -> int:
        """1 if the first has more votes, -1 if the second, 0 if neither."""
        return (self.first > self.second) - (self.first < self.second)


@dataclass(frozen=True)
class OpposedPair:
    """A pair of completions of an item on which the majorities of two groups are opposite."""

    item: ItemKey
    pair: tuple[int, int]
    one: Votes
    other: Votes

    @property
    def strength(self) -> int:
        """Number of judgements that would have to change for the groups to agree: the smaller of the two margins."""
        return min(abs(self.one.first - self.one.second), abs(self.other.first - self.other.second))


def votes(judgements: Iterable[Judgement]) -> dict[tuple[ItemKey, tuple[int, int]], list[Votes]]:
    """Votes of each group on each pair of completions of each item. Labelers without a group are left out."""
    counts: dict[tuple[ItemKey, tuple[int, int]], dict[str, Counter[int]]] = {}
    for item, judged in latest(judgements).items():
        for judgement in judged.values():
            if judgement.group is not None:
                for pair, side in judgement.preferences().items():
                    by_group = counts.setdefault((item, pair), {})
                    by_group.setdefault(judgement.group, Counter())[side] += 1
    return {
        place: [Votes(group, said[1], said[-1], said[0]) for group, said in sorted(by_group.items())]
        for place, by_group in counts.items()
    }


def opposed(judgements: Iterable[Judgement], *, least: int = 1) -> list[OpposedPair]:
    """Pairs on which two groups, each with at least `least` judgements, are opposite. The strongest first."""
    judged = latest(judgements).values()
    shared = [by for by in judged if len({judgement.group for judgement in by.values()} - {None}) > 1]
    found = [
        OpposedPair(item, pair, one, other)
        for (item, pair), by_group in votes(judgement for by in shared for judgement in by.values()).items()
        for one, other in combinations([votes for votes in by_group if votes.total >= least], 2)
        if one.leaning * other.leaning < 0
    ]
    return sorted(found, key=lambda split: -split.strength)
