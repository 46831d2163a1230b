"""Calibration of pair predictions: how sure a reward is, and how often it is right. Needs numpy alone.

A margin is the score of the better answer minus that of the worse one. Under the ranking loss (R2) the reward claims
that the better one wins with probability sigmoid(margin).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from heedful.maths.statistics import Clusters, Floats, Interval, mean_interval, sums_interval


class Temperature(NamedTuple):
    """The divisor of scores that makes them calibrated, and what it does to the other half of the prompts."""

    value: float | None
    """None where no temperature mends the scores: they are always right, or right no more often than chance."""
    loss_before: Interval
    """Nats a pair on the other half, before."""
    loss_after: Interval | None
    error_before: Interval
    """Expected calibration error on the other half, before."""
    error_after: Interval | None


def confidence(margins: ArrayLike) -> Floats:
    """The probability that the reward gives to the answer that it prefers."""
    return 1 / (1 + np.exp(-np.abs(np.asarray(margins, dtype=np.float64))))


def expected_error(margins: ArrayLike, clusters: Clusters = None, *, bins: int = 10, seed: int = 0) -> Interval:
    """Expected calibration error: the mean of |share right - mean confidence| over bins of equally many pairs.

    Its interval is a bootstrap over clusters with the bins of all pairs. Pairs with a margin of 0 predict nothing and
    are left out. NaN without a pair. A finite sample has an error above 0 even if the reward is calibrated. Source:
    Guo et al. 2017, with bins of equal counts.
    """
    margins = np.asarray(margins, dtype=np.float64)
    there = margins != 0
    n = int(there.sum())
    if n == 0:
        return Interval(float("nan"), None, None, 0)
    sure, right = confidence(margins[there]), (margins[there] > 0).astype(np.float64)
    bins = min(bins, n)
    number = np.empty(n, dtype=np.int64)
    for index, part in enumerate(np.array_split(np.argsort(sure, kind="stable"), bins)):
        number[part] = index
    terms = np.zeros((n, bins))
    terms[np.arange(n), number] = right - sure
    whole = np.column_stack([terms, np.ones(n)])
    chosen = None if clusters is None else [one for one, kept in zip(clusters, there, strict=True) if kept]
    return sums_interval(lambda sums: np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1], whole, chosen, n=n, seed=seed)


def losses(margins: ArrayLike) -> Floats:
    """-log sigmoid(margin) of each pair, in nats (R2)."""
    return np.logaddexp(0.0, -np.asarray(margins, dtype=np.float64))


def fitted_temperature(margins: ArrayLike) -> float | None:
    """The temperature T with the lowest loss of margin / T, by bisection. None if there is none.

    The loss is convex in 1 / T, with slope -sum(margin * sigmoid(-margin / T)). At 1 / T = 0 the slope is minus half
    the sum of the margins, so scores that are right no more often than chance have no T. Neither have scores that are
    always right: the loss falls for ever.
    """
    margins = np.asarray(margins, dtype=np.float64)
    if not margins.size or margins.sum() <= 0 or (margins >= 0).all():
        return None

    def slope(a: float) -> float:
        with np.errstate(over="ignore"):
            return float(-(margins / (1 + np.exp(a * margins))).sum())

    low, high = 0.0, 1.0 / float(np.abs(margins).max())
    while slope(high) < 0:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def temperature(margins: ArrayLike, clusters: Clusters, fitting: ArrayLike, *, bins: int = 10) -> Temperature:
    """Fit a temperature on the pairs that `fitting` marks, and measure it on the others. Both need a pair."""
    margins, fitting = np.asarray(margins, dtype=np.float64), np.asarray(fitting, dtype=bool)
    value, others = fitted_temperature(margins[fitting]), margins[~fitting]
    own = None if clusters is None else [one for one, fits in zip(clusters, fitting, strict=True) if not fits]
    before = mean_interval(losses(others), own), expected_error(others, own, bins=bins)
    if value is None:
        return Temperature(None, before[0], None, before[1], None)
    mended = others / value
    return Temperature(
        value, before[0], mean_interval(losses(mended), own), before[1], expected_error(mended, own, bins=bins)
    )
