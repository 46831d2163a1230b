"""How far rows are from a set of rows, and how well one number tells two sets apart. Needs numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.maths.statistics import FEWEST, Clusters, Floats, Interval, percentile_interval

DRAWS = 1000


@dataclass(frozen=True)
class Gaussian:
    """A mean and an inverse covariance: what the Mahalanobis distance is measured by."""

    mean_D: Floats
    precision_DD: Floats
    shrinkage: float
    """Weight of the scaled identity in the covariance, from 0 to 1."""

    def distances(self, states_ND: ArrayLike) -> Floats:
        """Mahalanobis distance of each row, in standard deviations."""
        centred = np.asarray(states_ND, dtype=np.float64) - self.mean_D
        return np.sqrt(np.maximum(np.einsum("nd,de,ne->n", centred, self.precision_DD, centred), 0.0))


def shrunk_gaussian(states_ND: ArrayLike) -> Gaussian:
    """Mean and inverse of the Ledoit-Wolf covariance of rows: (1 - s) S + s m I, with m the mean variance.

    The shrinkage s is the one with the smallest expected squared error, estimated from the rows. So there is an inverse
    also where there are fewer rows than columns. Raises ValueError below two rows, or if no row differs. Source: Ledoit
    and Wolf 2004.
    """
    states = np.asarray(states_ND, dtype=np.float64)
    if len(states) < 2 or not np.ptp(states, axis=0).any():
        raise ValueError("a covariance needs rows that differ")
    mean_D = states.mean(axis=0)
    centred = states - mean_D
    n, width = centred.shape
    sample = centred.T @ centred / n
    scale = float(np.trace(sample) / width)
    spread = float(np.square(sample - scale * np.eye(width)).sum())
    # mean squared distance of the rows' outer products from S, divided by n
    noise = float((np.square(np.square(centred).sum(axis=1)).sum() / n - np.square(sample).sum()) / n)
    shrinkage = min(1.0, max(0.0, noise / spread)) if spread > 0 else 1.0
    if shrinkage == 0.0 and n <= width:
        shrinkage = 1e-6  # the rows are in a plane of fewer dimensions
    covariance = (1 - shrinkage) * sample + shrinkage * scale * np.eye(width)
    return Gaussian(mean_D, np.linalg.pinv(covariance, hermitian=True), shrinkage)


def auroc(inside: ArrayLike, outside: ArrayLike, clusters: tuple[Clusters, Clusters] = (None, None)) -> Interval:
    """The probability that a number of `outside` is larger than one of `inside`, ties half, with its interval.

    0.5: they cannot be told apart. The interval is a percentile bootstrap over the clusters of each side. `n` counts
    the numbers of both. Raises ValueError if a side is empty.

    >>> auroc([1, 2, 3], [2, 4]).mean  # 4 beats all three, 2 beats one, ties one
    0.75
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (inside, outside)]
    if not all(side.size for side in sides):
        raise ValueError("one side is empty")
    found, n = _auroc(sides, [np.ones(side.size) for side in sides]), sum(side.size for side in sides)
    numbers = [_numbers(own, side.size) for own, side in zip(clusters, sides, strict=True)]
    if min(int(own.max()) + 1 for own in numbers) < FEWEST:
        return Interval(found, None, None, n)
    rng = np.random.default_rng(0)
    draws = np.array([_auroc(sides, [_frequency(own, rng)[own] for own in numbers]) for _ in range(DRAWS)])
    return Interval(found, *percentile_interval(draws), n)


def rank_correlation(x: ArrayLike, y: ArrayLike, clusters: Clusters = None) -> Interval:
    """Spearman's rank correlation with its percentile bootstrap interval over clusters. NaN if a side never varies.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]).mean
    0.8
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found, number = _spearman(x, y), _numbers(clusters, x.size)
    if math.isnan(found) or not x.size or int(number.max()) + 1 < FEWEST:
        return Interval(found, None, None, x.size)
    rng, rows = np.random.default_rng(0), [np.flatnonzero(number == one) for one in range(int(number.max()) + 1)]
    draws = []
    for _ in range(DRAWS):
        chosen = np.concatenate([rows[one] for one in rng.integers(len(rows), size=len(rows))])
        draws.append(_spearman(x[chosen], y[chosen]))
    return Interval(found, *percentile_interval(np.array(draws)), x.size)


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1, equal values get their mean rank."""
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum() - (counts - 1) / 2
    return np.asarray(mean_rank[place.reshape(-1)], dtype=np.float64)


def _spearman(x: Floats, y: Floats) -> float:
    if x.size < 2 or not np.ptp(x) or not np.ptp(y):
        return math.nan
    return round(float(np.corrcoef(ranks(x), ranks(y))[0, 1]), 12)


def _auroc(sides: Sequence[Floats], weights: Sequence[Floats]) -> float:
    """AUROC of weighted numbers: the share of pairs, weighted, in which the outer one is larger."""
    inside, outside = sides
    order = np.argsort(inside, kind="stable")
    total = np.concatenate([[0.0], weights[0][order].cumsum()])
    below, upto = (total[np.searchsorted(inside[order], outside, side=side)] for side in ("left", "right"))
    return float((weights[1] * (below + upto) / 2).sum() / (weights[0].sum() * weights[1].sum()))


def _numbers(clusters: Clusters, size: int) -> NDArray[np.int64]:
    if clusters is None:
        return np.arange(size)
    known = {one: index for index, one in enumerate(dict.fromkeys(clusters))}
    return np.array([known[one] for one in clusters], dtype=np.int64)


def _frequency(numbers: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    count = int(numbers.max()) + 1
    return np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
