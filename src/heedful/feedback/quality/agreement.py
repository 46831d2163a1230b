"""How far labelers agree: pairwise rate (D12, T4), Cohen's and Fleiss' kappa, Krippendorff's alpha (T2).

Every figure has an interval that counts items (T3): pairs of one item are one cluster. docs/quality.md says
what each figure means and when it misleads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.quality.types import ItemKey, Judgement, latest, said
from heedful.maths import statistics
from heedful.maths.statistics import AlphaLevel, Floats, Interval

Period = Literal["day", "week", "month"]


@dataclass(frozen=True)
class AgreementTable:
    """Values [labelers, units], NaN where a labeler did not judge a unit. `items` names the item of each unit.

    Units of one item are resampled together. Only items that at least two labelers judged are kept.
    `indifferent`: the value that counts as no opinion in the pairwise rate.
    """

    labelers: tuple[str, ...]
    items: tuple[ItemKey, ...]
    values: Floats
    indifferent: float | None = None


@dataclass(frozen=True)
class Summary:
    """Agreement of several labelers. An interval's `n` is pairs of judgements in `rate`, units in the others.

    A figure is None if it is undefined (no shared item, or only one value).
    """

    labelers: int
    items: int
    rate: Interval | None
    fleiss: Interval | None
    alpha: Interval | None


@dataclass(frozen=True)
class LabelerPair:
    """Agreement of two labelers over the items both judged."""

    first: str
    second: str
    items: int
    rate: Interval | None
    cohen: Interval | None


def preference_table(judgements: Iterable[Judgement]) -> AgreementTable:
    """A unit for each pair of completions of an item: 1 if the first is preferred, -1 if the second, 0 for a tie."""
    return _table(judgements, Judgement.preferences, indifferent=0.0)


def flag_table(judgements: Iterable[Judgement], flag: str) -> AgreementTable:
    """A unit for each completion: 1 if the flag (D9) was set, else 0."""
    return _table(judgements, lambda judgement: _rated(judgement, flag))


def overall_table(judgements: Iterable[Judgement]) -> AgreementTable:
    """A unit for each completion: the overall quality 1-7."""
    return _table(judgements, lambda judgement: _rated(judgement, "overall"))


def pairwise_rate(table: AgreementTable) -> Interval | None:
    """Share of pairs of judgements that say the same. Of preferences, pairs with a tie are left out (D12, S C.2).

    `n` is the number of pairs. None without one.
    """
    return _ratio(statistics.agreement_terms(_counts(table)), table.items)


def cohen_kappa(table: AgreementTable, first: str, second: str, *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Cohen's kappa of two labelers over the units that both judged. A tie is a value like any other."""
    one, other = (table.values[table.labelers.index(name)] for name in (first, second))
    both = ~np.isnan(one) & ~np.isnan(other)
    if not both.any():
        return None
    values, said = np.unique(np.stack([one[both], other[both]]), return_inverse=True)
    C, n = values.size, int(both.sum())
    terms = np.zeros((n, C * C))
    terms[np.arange(n), said[0] * C + said[1]] = 1.0
    found = statistics.sums_interval(
        lambda sums: statistics.cohen_kappa(sums.reshape(-1, C, C)),
        terms, _chosen(table.items, both), n=n, draws=draws, seed=seed,
    )  # fmt: skip
    return _defined(found)


def fleiss_kappa(table: AgreementTable, *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Fleiss' kappa. Units may have different numbers of judgements. Those with one are left out."""
    several = (~np.isnan(table.values)).sum(axis=0) >= 2
    values = table.values[:, several]
    if not values.size:
        return None
    counts = np.stack([(values == value).sum(axis=0) for value in np.unique(values[~np.isnan(values)])], axis=1)
    found = statistics.sums_interval(
        statistics.fleiss_kappa, statistics.fleiss_terms(counts), _chosen(table.items, several),
        n=int(several.sum()), draws=draws, seed=seed,
    )  # fmt: skip
    return _defined(found)


def alpha(table: AgreementTable, level: AlphaLevel = "nominal", *, draws: int = 2000, seed: int = 0) -> Interval | None:
    """Krippendorff's alpha (T2)."""
    if not table.values.size:
        return None
    return _defined(statistics.alpha_interval(table.values, level, table.items, draws=draws, seed=seed))


def summary(table: AgreementTable, level: AlphaLevel = "nominal", *, draws: int = 1000, seed: int = 0) -> Summary:
    """All figures of one table."""
    return Summary(
        labelers=len(table.labelers),
        items=len(set(table.items)),
        rate=pairwise_rate(table),
        fleiss=fleiss_kappa(table, draws=draws, seed=seed),
        alpha=alpha(table, level, draws=draws, seed=seed),
    )


def by_pair(table: AgreementTable, *, least_items: int = 1, draws: int = 1000, seed: int = 0) -> list[LabelerPair]:
    """Each pair of labelers who share at least `least_items` items, in the order of their names."""
    judged = ~np.isnan(table.values)
    found = []
    for a, first in enumerate(table.labelers):
        for b in range(a + 1, len(table.labelers)):
            both, second = judged[a] & judged[b], table.labelers[b]
            items = tuple(_chosen(table.items, both))
            if len(set(items)) >= max(1, least_items):
                two = AgreementTable((first, second), items, table.values[[a, b]][:, both], table.indifferent)
                rate = pairwise_rate(two)
                cohen = cohen_kappa(two, first, second, draws=draws, seed=seed)
                found.append(LabelerPair(first, second, len(set(items)), rate, cohen))
    return found


def by_labeler(table: AgreementTable) -> dict[str, Interval | None]:
    """Pairwise rate of each labeler with all others."""
    return {
        name: _rate_between(table, [index == row for index in range(len(table.labelers))])
        for row, name in enumerate(table.labelers)
    }


def by_group(judgements: Sequence[Judgement], *, draws: int = 1000, seed: int = 0) -> dict[str, Summary]:
    """Agreement on preferences within each group. Labelers without a group are left out."""
    groups = sorted({judgement.group for judgement in judgements if judgement.group is not None})
    return {
        group: summary(preference_table(j for j in judgements if j.group == group), draws=draws, seed=seed)
        for group in groups
    }


def between_groups(judgements: Sequence[Judgement], first: str, second: str) -> Interval | None:
    """Pairwise rate between the judgements of one group and those of another."""
    table = preference_table(judgement for judgement in judgements if judgement.group in (first, second))
    of_first = {judgement.labeler for judgement in judgements if judgement.group == first}
    return _rate_between(table, [name in of_first for name in table.labelers])


def over_time(
    judgements: Sequence[Judgement], period: Period = "week", *, draws: int = 1000, seed: int = 0
) -> list[tuple[date, Summary]]:
    """Agreement on preferences by period (its first day, UTC). The last judgement of an item decides its period.

    Items with a judgement of unknown date are left out.
    """
    periods: dict[date, list[Judgement]] = {}
    for judged in latest(judgements).values():
        times = [judgement.when for judgement in judged.values() if judgement.when is not None]
        if len(judged) >= 2 and len(times) == len(judged):
            periods.setdefault(_first_day(max(times), period), []).extend(judged.values())
    return [(day, summary(preference_table(periods[day]), draws=draws, seed=seed)) for day in sorted(periods)]


def _table(
    judgements: Iterable[Judgement],
    cells: Callable[[Judgement], Mapping[Any, float]],
    indifferent: float | None = None,
) -> AgreementTable:
    rows: dict[str, int] = {}
    items: list[ItemKey] = []
    found: list[tuple[int, int, float]] = []
    for item, judged in latest(judgements).items():
        if len(judged) < 2:
            continue
        units: dict[Any, int] = {}
        for name, judgement in judged.items():
            for unit, value in cells(judgement).items():
                column = units.setdefault(unit, len(items) + len(units))
                found.append((rows.setdefault(name, len(rows)), column, value))
        items += [item] * len(units)
    names = sorted(rows)
    place = {rows[name]: index for index, name in enumerate(names)}
    values = np.full((len(names), len(items)), np.nan)
    for row, column, value in found:
        values[place[row], column] = value
    return AgreementTable(tuple(names), tuple(items), values, indifferent)


def _rated(judgement: Judgement, name: str) -> dict[int, float]:
    given = [(k, said(rating, name)) for k, rating in enumerate(judgement.ratings or ())]
    return {k: float(value) for k, value in given if value is not None}


def _rate_between(table: AgreementTable, inside: Sequence[bool]) -> Interval | None:
    """Pairwise rate between the judgements of labelers inside and those of labelers outside."""
    chosen = np.asarray(inside, dtype=bool)
    ours, theirs = _counts(table, chosen), _counts(table, ~chosen)
    terms = np.column_stack([(ours * theirs).sum(axis=1), ours.sum(axis=1) * theirs.sum(axis=1)])
    return _ratio(terms, table.items)


def _counts(table: AgreementTable, rows: NDArray[np.bool_] | None = None) -> Floats:
    """How many labelers gave each value of each unit [units, values], without the indifferent value."""
    values = np.unique(table.values[~np.isnan(table.values)])
    said = table.values if rows is None else table.values[rows]
    counts = [(said == value).sum(axis=0) for value in values if value != table.indifferent]
    return np.stack(counts or [np.zeros(len(table.items))], axis=1).astype(np.float64)


def _ratio(terms: Floats, items: Sequence[ItemKey]) -> Interval | None:
    """Ratio of the sums of two columns, with its interval. None if the second sum is 0."""
    total = terms[:, 1].sum()
    if not total:
        return None
    counting = terms[:, 1] > 0
    return statistics.ratio_interval(terms[counting], _chosen(items, counting), n=int(total))


def _chosen(items: Sequence[ItemKey], mask: NDArray[np.bool_]) -> list[ItemKey]:
    return [item for item, inside in zip(items, mask, strict=True) if inside]


def _defined(found: Interval) -> Interval | None:
    return None if math.isnan(found.mean) else found


def _first_day(when: datetime, period: Period) -> date:
    day = when.astimezone(UTC).date()
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day
