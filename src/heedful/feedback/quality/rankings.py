"""One order from many rankings: Bradley-Terry-Davidson with the reliability of each labeler, estimated together.

The model is in docs/quality.md: d = reliability_l * (strength_i - strength_j);
P(i before j) : P(tie) : P(j before i) = exp(d / 2) : tie : exp(-d / 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heedful.feedback.quality.types import Judgement, Key, Ranking
from heedful.maths.statistics import Floats


@dataclass(frozen=True)
class Aggregate:
    """One item: strengths [K] with mean 0, their standard deviations, judgements, and the order they suggest."""

    item: Key
    strengths: Floats
    deviations: Floats
    judgements: int
    ranking: Ranking

    def uncertainty(self) -> float:
        """Entropy in bits, averaged over pairs, of which of two completions is better: 1 = nothing is known."""
        raise NotImplementedError


@dataclass(frozen=True)
class Consensus:
    """`reliability` of a labeler: about 1 is usual, 0 chance, under 0 against the others. `tie`: of the model."""

    items: dict[Key, Aggregate]
    reliability: dict[str, float]
    tie: float


def aggregate(judgements: Iterable[Judgement]) -> Consensus:
    """Strengths of every item's completions and reliability of every labeler, at the highest posterior.

    Give one group's judgements to get that group's aggregate: see `by_group`.
    """
    raise NotImplementedError


def by_group(judgements: Iterable[Judgement]) -> dict[str, Consensus]:
    """An aggregate for each group on its own; labelers without a group are left out."""
    raise NotImplementedError
