"""How far labelers agree: pairwise rate (D12, T4), Cohen's and Fleiss' kappa, Krippendorff's alpha (T2).

Every figure has a bootstrap interval that resamples items (T3): pairs of one item are one cluster.
docs/quality.md says what each figure means and when it misleads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from heedful.feedback.quality.types import Judgement, Key
from heedful.maths.statistics import Floats, Interval

Level = Literal["nominal", "ordinal", "interval"]
Period = Literal["day", "week", "month"]


@dataclass(frozen=True)
class Table:
    """Values [labelers, units], NaN where a labeler did not judge a unit; `items` names the item of each unit.

    Units of one item are resampled together. Only items that at least two labelers judged are kept.
    """

    labelers: tuple[str, ...]
    items: tuple[Key, ...]
    values: Floats


@dataclass(frozen=True)
class Summary:
    """Agreement of several labelers. An interval's `n` is pairs of judgements in `rate`, units in the others.

    A figure is None where it is undefined (nobody shares an item, or one value only occurs).
    """

    labelers: int
    items: int
    rate: Interval | None
    fleiss: Interval | None
    alpha: Interval | None


@dataclass(frozen=True)
class Pair:
    """Agreement of two labelers over the items both judged."""

    first: str
    second: str
    items: int
    rate: Interval | None
    cohen: Interval | None


def preference_table(judgements: Iterable[Judgement]) -> Table:
    """A unit for every pair of completions of an item: 1 where the first is preferred, -1 the second, 0 a tie."""
    raise NotImplementedError


def flag_table(judgements: Iterable[Judgement], flag: str) -> Table:
    """A unit for every completion: 1 where the flag of D9 was set, 0 where not."""
    raise NotImplementedError


def overall_table(judgements: Iterable[Judgement]) -> Table:
    """A unit for every completion: the overall quality 1-7."""
    raise NotImplementedError


def pairwise_rate(table: Table, *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Share of pairs of judgements with the same preferred side; where either is indifferent the pair is left out.

    Of a preference table (D12, S C.2). `n` is the number of pairs. None without one.
    """
    raise NotImplementedError


def cohen_kappa(table: Table, first: str, second: str, *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Cohen's kappa of two labelers over the units both judged, ties being a value like any other."""
    raise NotImplementedError


def fleiss_kappa(table: Table, *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Fleiss' kappa; units may have different numbers of judgements, those with one are left out."""
    raise NotImplementedError


def alpha(table: Table, level: Level = "nominal", *, draws: int = 1000, seed: int = 0) -> Interval | None:
    """Krippendorff's alpha (T2)."""
    raise NotImplementedError


def summary(table: Table, level: Level = "nominal", *, draws: int = 1000, seed: int = 0) -> Summary:
    """All figures of one table."""
    raise NotImplementedError


def by_pair(table: Table, *, least_items: int = 1, draws: int = 1000, seed: int = 0) -> list[Pair]:
    """Every two labelers who share at least `least_items` items, in the order of their names."""
    raise NotImplementedError


def by_group(judgements: Sequence[Judgement], *, draws: int = 1000, seed: int = 0) -> dict[str, Summary]:
    """Preferences within each group; a labeler without a group counts in none."""
    raise NotImplementedError


def between_groups(
    judgements: Sequence[Judgement], first: str, second: str, *, draws: int = 1000, seed: int = 0
) -> Interval | None:
    """Pairwise rate of judgements of which one is from each group."""
    raise NotImplementedError


def over_time(
    judgements: Sequence[Judgement], period: Period = "week", *, draws: int = 1000, seed: int = 0
) -> list[tuple[date, Summary]]:
    """Preferences by period (its first day, UTC), a judgement counting where it was made; undated ones are left out."""
    raise NotImplementedError
