"""Statistics of judgements: pair accuracy, win rates, agreement, 95 % intervals. Needs numpy alone.

Observations of one cluster, such as one prompt or one user, vary together. Intervals count clusters, not observations.
There is no interval from fewer than `FEWEST` clusters, or where no cluster differs: it would claim what nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST = 10
"""Clusters that an interval needs."""
_Z = NormalDist().inv_cdf(0.975)
Floats = NDArray[np.float64]
AlphaLevel = Literal["nominal", "ordinal", "interval"]
Clusters = Sequence[object] | NDArray | None
ScoreRows = Sequence[Sequence[float]]
"""One row a prompt, one number a completion."""


class Agreement(NamedTuple):
    """Share of judgement pairs that agree, and the number of pairs."""

    rate: float
    pairs: int


class Interval(NamedTuple):
    """A mean over n observations with the bounds of its 95 % interval, None without one."""

    mean: float
    low: float | None
    high: float | None
    n: int


class WinRate(NamedTuple):
    """Share of wins, ties half, over n outcomes with the bounds of its 95 % interval, None without one."""

    rate: float
    low: float | None
    high: float | None
    n: int


class Repeats(NamedTuple):
    """Mean and standard error over n repetitions, such as seeds or folds. It is not an interval."""

    mean: float
    error: float | None
    n: int


def ends(
    found: Interval | WinRate | dict[str, Any],
    form: Callable[[float], str] = "{:.1%}".format,
    none: str | None = None,
) -> str:
    """The bounds in words, "61.2% to 70.1%", or why there are none, or `none`.

    >>> ends(Interval(0.5, 0.25, 0.75, 12)), ends(Interval(0.5, None, None, 3)), ends(Interval(0.5, None, None, 40))
    ('25.0% to 75.0%', 'too few for an interval', 'too few or all equal')
    """
    bounds = found if isinstance(found, dict) else found._asdict()
    low, high = bounds["low"], bounds["high"]
    if low is not None and high is not None:
        return f"{form(low)} to {form(high)}"
    return none or ("too few for an interval" if bounds.get("n", 0) < FEWEST else "too few or all equal")


def repeats(values: Sequence[float]) -> Repeats:
    """Mean and standard error of repetitions. One alone has no error.

    >>> mean, error, n = repeats([0.6, 0.7, 0.8])
    >>> f"{mean:.3f} ± {error:.3f}"
    '0.700 ± 0.058'
    """
    found = np.asarray(values, dtype=np.float64)
    error = float(found.std(ddof=1) / math.sqrt(found.size)) if found.size > 1 else None
    return Repeats(float(found.mean()), error, found.size)


def alpha_interval(
    ratings: ArrayLike,
    level: AlphaLevel,
    clusters: Clusters = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Krippendorff's alpha of ratings [raters, units], NaN = missing, with its interval over clusters (T2, T3).

    alpha = 1 - D_o / D_e: observed over expected disagreement. Only units with two or more ratings count: `n` is their
    number. The mean is NaN where alpha is undefined: no such unit, or one value only. Source: Krippendorff 2011.

    >>> found = alpha_interval([[1, 2, 3, 3], [1, 2, 3, 4]], "nominal")
    >>> round(found.mean, 4), found.n
    (0.6957, 4)
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    paired = (~np.isnan(ratings)).sum(axis=0) >= 2
    shared, n = ratings[:, paired], int(paired.sum())
    values = np.unique(shared[~np.isnan(shared)])
    if values.size < 2:
        return Interval(math.nan, None, None, n)
    if clusters is not None:
        clusters = numbered(clusters)[paired]
    return sums_interval(
        lambda sums: _alpha_of_coincidences(sums.reshape(-1, values.size, values.size), values, level),
        _coincidences(np.stack([(shared == value).sum(axis=0) for value in values], axis=1)),
        clusters, n=n, draws=draws, seed=seed,
    )  # fmt: skip


def cohen_kappa(counts: ArrayLike) -> Floats:
    """Cohen's kappa of counts [..., C, C]: units that one rater put in class i (row) and another in class j (column).

    (p_o - p_e) / (1 - p_e), with p_o the share of agreement and p_e the one expected by chance. NaN if both raters
    always choose the same class. Source: Cohen 1960.
    """
    counts = np.asarray(counts, dtype=np.float64)
    n = counts.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(counts, axis1=-2, axis2=-1) / n
        expected = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / n**2
        return (observed - expected) / (1 - expected)


def fleiss_terms(counts: ArrayLike) -> Floats:
    """Terms [N, 2 + C] whose sum `fleiss_kappa` takes, from counts [N, C] of raters by class, two or more a unit."""
    counts = np.asarray(counts, dtype=np.float64)
    same, pairs = agreement_terms(counts).T
    return np.column_stack([same / pairs, np.ones_like(pairs), counts])


def fleiss_kappa(sums: ArrayLike) -> Floats:
    """Fleiss' kappa from sums [..., 2 + C] of `fleiss_terms` over units. NaN if all raters chose one class.

    Source: Fleiss 1971.
    """
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = sums[..., 0] / sums[..., 1]
        expected = ((sums[..., 2:] / sums[..., 2:].sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        return (observed - expected) / (1 - expected)


def agreement(choices: ArrayLike) -> Agreement:
    """Pairwise agreement of choices [raters, comparisons] in {-1, 0, 1}, where 0 is a tie or not seen (D12, T4).

    Every pair of raters of a comparison counts, unless either chose a tie. NaN without such a pair.

    >>> agreement([[1, 1, 0], [1, -1, 1]])  # they agree on the first comparison, not on the second
    Agreement(rate=0.5, pairs=2)
    """
    choices = np.asarray(choices)
    counts = np.stack([(choices == 1).sum(axis=0), (choices == -1).sum(axis=0)], axis=1)
    same, pairs = agreement_terms(counts).sum(axis=0)
    return Agreement(float(same / pairs) if pairs else math.nan, int(pairs))


def agreement_terms(counts: ArrayLike) -> Floats:
    """Agreeing pairs of raters and all pairs, for each unit: [N, 2] from counts [N, C] of raters by class."""
    counts = np.asarray(counts, dtype=np.float64)
    n = counts.sum(axis=1)
    return np.column_stack([(counts * (counts - 1)).sum(axis=1) / 2, n * (n - 1) / 2])


def win_rate(outcomes: ArrayLike, clusters: Clusters = None) -> WinRate:
    """Win rate: mean of outcomes in [0, 1] (win 1, tie 0.5, loss 0) with its interval over clusters (T3).

    `clusters` names the prompt or user of each outcome. By default every outcome is its own cluster. Raises ValueError
    for other values.
    """
    return WinRate(*rate_interval(outcomes, clusters))


def wins(margins: Any) -> Any:
    """Outcomes of comparisons from their margins (array or tensor): 1 above 0, 0.5 at 0 (equal scores), 0 below 0."""
    return 0.5 * (margins > 0) + 0.5 * (margins >= 0)


class Pair(NamedTuple):
    """Two completions of one row of which the first is better in truth."""

    row: int
    better: int
    worse: int


def ordered_pairs(truth: ScoreRows) -> list[Pair]:
    """Every pair of completions of one row whose true values differ (R3).

    >>> [tuple(pair) for pair in ordered_pairs([[3, 1, 1]])]  # completions 1 and 2 tie
    [(0, 0, 1), (0, 0, 2)]
    """
    return [
        Pair(row, i, j) if values[i] > values[j] else Pair(row, j, i)
        for row, values in enumerate(truth)
        for i in range(len(values))
        for j in range(i)
        if values[i] != values[j]
    ]


def pair_accuracy(scores: ScoreRows, pairs: Sequence[Pair], clusters: Clusters = None) -> WinRate:
    """Share of the pairs that the scores order as the truth does, equal scores half (R6), with its interval.

    `clusters` names the cluster of each row, for example its prompt. By default each row is its own cluster.
    Raises ValueError without a pair.

    >>> pair_accuracy([[2.0, 2.0, 1.0]], ordered_pairs([[3, 1, 1]])).rate  # one pair tied, one right
    0.75
    """
    if not pairs:
        raise ValueError("no two completions of a prompt differ in truth")
    margins = np.array([scores[row][better] - scores[row][worse] for row, better, worse in pairs])
    return win_rate(wins(margins), [pair.row if clusters is None else clusters[pair.row] for pair in pairs])


def rate_interval(outcomes: ArrayLike, clusters: Clusters = None) -> Interval:
    """Mean of outcomes in [0, 1], such as shares and win rates, with its score interval over clusters.

    Wilson's interval for outcomes of 0 and 1 that are clusters of their own, else that of `ratio_interval`. The order
    of the outcomes does not matter. Raises ValueError without outcomes and for values outside [0, 1].

    >>> [round(x, 3) for x in rate_interval([1] * 19 + [0])[:3]]  # Wilson's
    [0.95, 0.764, 0.991]
    """
    outcomes = _values(outcomes, clusters)
    if ((outcomes < 0) | (outcomes > 1)).any():
        raise ValueError("outcomes are 1 for a win, 0.5 for a tie, 0 for a loss")
    found = ratio_interval(np.column_stack([outcomes, np.ones(outcomes.size)]), clusters)
    alone = clusters is None or len(set(clusters)) == outcomes.size
    if alone and outcomes.size >= FEWEST and np.isin(outcomes, (0, 1)).all():
        return Interval(float(outcomes.mean()), *_score(found.mean, outcomes.size, _Z), outcomes.size)
    return found._replace(mean=float(outcomes.mean()))


def ratio_interval(terms: ArrayLike, clusters: Clusters = None, *, n: int | None = None) -> Interval:
    """Ratio of the sums of two columns [N, 2], part and whole with 0 <= part <= whole, with its interval over clusters.

    Wilson's interval with the effective number of observations: that of independent ones with the same variance as the
    clusters show. The variance is that of the jackknife over clusters, where a cluster with a large share of the whole
    counts for what the rate would be without it. Quantiles are Student's with the degrees of `equal_clusters`. If no
    cluster has a part, or each one has all, each counts as one observation. `n` is passed on and defaults to N.
    Sources: Korn and Graubard 1998, with the score interval. Carter, Schnepel and Steigerwald 2017 for the degrees.
    """
    terms = np.asarray(terms, dtype=np.float64)
    sums = terms if clusters is None else _totals(terms, clusters)
    count, n = len(sums), len(terms) if n is None else n
    part, whole = sums.sum(axis=0)
    rate = float(part / whole)
    if count < FEWEST:
        return Interval(rate, None, None, n)
    share = sums[:, 1] / whole
    if share.max() > 1 - 1e-12:  # all is of one cluster
        return Interval(rate, None, None, n)
    moved = (sums[:, 0] - rate * sums[:, 1]) / (1 - share) / whole  # of the rate, without the cluster
    spread = float(np.square(moved).sum()) * (count - 1) / count
    quantile = student(max(1, round(equal_clusters(share)) - 1))
    if min(rate, 1 - rate) < 1e-12:
        return Interval(rate, *_score(round(rate), count, quantile), n)
    if spread < 1e-24:  # no cluster differs, as where all outcomes are ties
        return Interval(rate, None, None, n)
    return Interval(rate, *_score(rate, rate * (1 - rate) / spread, quantile), n)


def mean_interval(
    values: ArrayLike,
    clusters: Clusters = None,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of values [N] of any size with its bootstrap interval over clusters, that of `sums_interval`.

    A function of the values, the clusters and the seed. The order of the values does not matter. Raises ValueError
    without values and for values that are not finite. For shares and win rates take `rate_interval`.
    """
    values = _values(values, clusters)
    terms = np.column_stack([values, np.ones(values.size)])
    found = sums_interval(lambda sums: sums[:, 0] / sums[:, 1], terms, clusters, n=values.size, draws=draws, seed=seed)
    return found._replace(mean=float(values.mean()))


def sums_interval(
    statistic: Callable[[Floats], Floats],
    terms: ArrayLike,
    clusters: Clusters = None,
    *,
    n: int,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """A statistic of the sums of terms [N, F] with its BCa bootstrap interval over clusters (T3).

    `statistic` maps sums [draws, F] to values [draws]. `n` is passed on. The interval leaves out resamples in which the
    statistic is NaN. Unlike the percentile interval it corrects bias and skewness, the latter from the values without
    one cluster each. Source: Efron and Tibshirani 1993, chapter 14.
    """
    terms = np.asarray(terms, dtype=np.float64)
    totals = terms if clusters is None else _totals(terms, clusters)
    whole = totals.sum(axis=0, keepdims=True)
    found = float(statistic(whole)[0])
    if len(totals) < FEWEST or math.isnan(found):
        return Interval(found, None, None, n)
    resampled = statistic(_resampled_sums(totals, draws, np.random.default_rng(seed)))
    resampled = resampled[~np.isnan(resampled)]
    if not resampled.size or np.ptp(resampled) <= 1e-12 * max(1.0, abs(found)):
        return Interval(found, None, None, n)
    low, high = np.quantile(resampled, _corrected(resampled, found, statistic(whole - totals)))
    return Interval(found, float(low), float(high), n)


def _corrected(resampled: Floats, found: float, without_one: Floats) -> tuple[float, float]:
    """The levels of a BCa interval, from the bias of the resamples and the skewness of the jackknife."""
    below = (np.sum(resampled < found) + 0.5 * np.sum(resampled == found)) / resampled.size
    bias = NormalDist().inv_cdf(min(max(below, 0.5 / resampled.size), 1 - 0.5 / resampled.size))
    moved = np.nanmean(without_one) - without_one[~np.isnan(without_one)]
    skewness = float((moved**3).sum() / (6 * np.square(moved).sum() ** 1.5)) if np.any(moved) else 0.0

    def level(z: float) -> float:
        shifted = bias + z
        return NormalDist().cdf(bias + shifted / max(1 - skewness * shifted, 1e-6))

    return level(-_Z), level(_Z)


def equal_clusters(shares: Floats) -> float:
    """How many clusters of equal size have the same sum of squared shares [N] of the whole.

    >>> equal_clusters(np.array([0.5, 0.25, 0.25]))  # 1 / (1/4 + 1/16 + 1/16)
    2.6666666666666665
    """
    return 1 / float(np.square(shares).sum())


def _score(rate: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a rate over `count` observations. Source: Wilson 1927."""
    square = quantile**2 / count
    middle = (rate + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(rate * (1 - rate) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def student(degrees: int, z: float = _Z) -> float:
    """A quantile of Student's distribution from `z`, that of the normal distribution, by default of 97.5 %.

    To 1e-3 from 9 degrees on at 97.5 %. Source: Abramowitz & Stegun 26.7.5.
    """
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def _values(values: ArrayLike, clusters: Clusters) -> Floats:
    """The values as an array. Raises ValueError for what has no mean."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError("an interval needs at least one value")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values")
    if clusters is not None and len(clusters) != values.size:
        raise ValueError(f"{values.size} values but {len(clusters)} clusters")
    return values


def _totals(terms: Floats, clusters: Sequence[object] | NDArray) -> Floats:
    """Sums of the terms [N, F] of each cluster."""
    index = numbered(clusters)
    totals = np.zeros((index.max() + 1, terms.shape[1]))
    np.add.at(totals, index, terms)
    return totals


def percentile_interval(resampled: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the central `confidence` of a resampled statistic, linearly interpolated, without NaN (T3).

    The plain percentile bootstrap. For a rate near 0 or 1, and from few clusters, it is too narrow: of 20 outcomes
    with a rate of 0.95 it covers 67 % where it says 95 %. Rates and means take the intervals above.
    """
    tail = (1 - confidence) / 2
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def reward_bias(demonstration_rewards: ArrayLike) -> float:
    """The number to add to every reward so that the demonstrations score 0 on average (R5)."""
    return -float(np.mean(np.asarray(demonstration_rewards, dtype=np.float64)))


def _coincidences(counts: NDArray) -> Floats:
    """Each unit's share [N, C * C] of the coincidence matrix (T2), from counts [N, C] of raters by value.

    A unit with m ratings holds n_c * (n_k - [c = k]) ordered pairs of values c and k, each weighted 1 / (m - 1).
    """
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(counts.shape[1]))
    return (pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), -1)


def _alpha_of_coincidences(o: Floats, values: Floats, level: AlphaLevel) -> Floats:
    """Alpha [draws] of many coincidence matrices [draws, C, C] at once (T2)."""
    n_c = o.sum(axis=-1)
    n = n_c.sum(axis=-1)
    middle = {"ordinal": n_c.cumsum(axis=-1) - n_c / 2, "interval": values, "nominal": np.arange(values.size)}[level]
    distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    if level == "nominal":
        distance = (distance > 0).astype(np.float64)
    observed = (o * distance).sum(axis=(-2, -1)) / n
    expected = (n_c[:, :, None] * n_c[:, None, :] * distance).sum(axis=(-2, -1)) / (n * (n - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - observed / expected


def numbered(clusters: Sequence[object] | NDArray) -> NDArray[np.int64]:
    """Clusters as the numbers 0, 1, 2, ... in the order in which they first occur."""
    number = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    return np.fromiter((number[cluster] for cluster in clusters), dtype=np.int64, count=len(clusters))


def _resampled_sums(terms: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Sums [draws, F] of resamples of the clusters' terms [N, F].

    Clusters of equal terms are interchangeable. It is enough to draw how often each kind occurs.
    """
    assert draws >= 1000, "a bootstrap interval needs at least 1,000 draws (T3)"
    kinds, frequency = np.unique(terms, axis=0, return_counts=True)
    share, n = frequency / frequency.sum(), len(terms)
    sums = np.empty((draws, terms.shape[1]))
    chunk = max(1, 2_000_000 // len(frequency))
    for start in range(0, draws, chunk):
        counts = rng.multinomial(n, share, size=min(chunk, draws - start))
        sums[start : start + chunk] = counts @ kinds
    return sums
