"""Items with a known answer: how often a labeler gives it, and whether anybody was reading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heedful.feedback.quality.types import Judgement, Ranking
from heedful.maths.statistics import Interval


@dataclass(frozen=True)
class Answer:
    """One gold item's answer against the known one."""

    right: float
    """Pairs ordered as in the known answer; a tie where there is none is half right."""
    pairs: int
    """Pairs that the known answer orders."""


@dataclass(frozen=True)
class Accuracy:
    """Share of right pairs over a labeler's gold items (interval over items); None without gold items."""

    labeler: str
    items: int
    accuracy: Interval | None
    attention_items: int
    attention_missed: int


def answer(ranking: Ranking, gold: Ranking) -> Answer:
    """What of a known answer a ranking reproduces; pairs tied in the known answer ask nothing."""
    raise NotImplementedError


def accuracy(judgements: Iterable[Judgement], *, draws: int = 1000, seed: int = 0) -> dict[str, Accuracy]:
    """Each labeler's accuracy on gold items; attention items are counted apart, missed where any pair is not right."""
    raise NotImplementedError
