"""Patterns that a lead should look at. An alert is a question, not a verdict: it names a figure and its cut-off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from heedful.config import Config
from heedful.feedback.quality.types import Judgement, Written

Kind = Literal["first_shown", "last_shown", "all_tied", "too_fast", "straight_lining", "copy", "gold", "attention"]


class Cutoffs(Config):
    """Where an alert begins."""

    least: int = 10
    """Judgements before a pattern is looked for."""
    position_share: float = 0.6
    """Share of judgements whose single best answer was the first (or the last) shown."""
    tied_share: float = 0.8
    """Share of judgements with all answers tied."""
    words_per_minute: float = 600.0
    """Faster than this nobody has read: prompt and answers over the time spent."""
    fast_share: float = 0.2
    """Share of judgements that were faster."""
    straight_share: float = 0.8
    """Share of judgements in which all answers got the same rating."""
    copied: float = 0.8
    """Share of a demonstration's runs of four words that stand in one answer of a model."""
    gold: float = 0.6
    """Accuracy on gold items."""
    attention_missed: int = 1
    """Attention items missed."""


@dataclass(frozen=True)
class Alert:
    """`figure` passed `cutoff` over `n` judgements; `items` to look at."""

    labeler: str
    kind: Kind
    figure: float
    cutoff: float
    n: int
    text: str
    items: tuple[int | str, ...] = ()


def alerts(
    judgements: Iterable[Judgement], written: Iterable[Written] = (), cutoffs: Cutoffs | None = None
) -> list[Alert]:
    """All alerts, by labeler and kind."""
    raise NotImplementedError


def words_per_minute(judgement: Judgement) -> float | None:
    """Reading speed; None where time or length is not known."""
    raise NotImplementedError


def copied(text: str, source: str) -> float:
    """Share of the runs of four words of `text` that stand in `source`, case and punctuation set aside."""
    raise NotImplementedError
