"""Statistics of people's judgements, in numpy alone. Sums, counts and units: docs/conventions.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Agreement(NamedTuple):
    """Share of judgement pairs that agree, and how many pairs there were."""

    rate: float
    pairs: int


class Interval(NamedTuple):
    """A mean over n observations with the bounds of its interval."""

    mean: float
    low: float
    high: float
    n: int


class WinRate(NamedTuple):
    """Share of wins, ties half, over n outcomes with the bounds of its interval."""

    rate: float
    low: float
    high: float
    n: int


def krippendorff_alpha(ratings: ArrayLike, level: Literal["nominal", "ordinal", "interval"]) -> float:
    """Krippendorff's alpha of ratings [raters, units], NaN = missing (T2).

    NaN where it is undefined: no unit with two ratings, or one value only among the units with two.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    shared = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if np.unique(shared[~np.isnan(shared)]).size < 2:
        return math.nan
    return float(krippendorff.alpha(reliability_data=shared, level_of_measurement=level))


def bradley_terry(wins: ArrayLike, n_items: int, l2: float = 0.0) -> Floats:
    """Strengths with mean 0 that maximise the likelihood of wins [N, (winner, loser)] (T1), less l2 * |strengths|^2.

    Without the penalty every item must be linked to every other by a chain of wins in both directions.
    """
    pairs = np.asarray(wins, dtype=np.int64).reshape(-1, 2)
    counts = np.zeros((n_items, n_items))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1.0)
    if l2 <= 0 and not (_reaches_all(counts) and _reaches_all(counts.T)):
        raise ValueError(
            "strengths are not determined: some items never win or never lose against the rest; set l2 > 0"
        )
    games = counts + counts.T

    def objective(theta: Floats) -> float:
        return float((counts * np.logaddexp(0.0, theta[None, :] - theta[:, None])).sum() + l2 * theta @ theta)

    theta = np.zeros(n_items)
    for _ in range(100):
        beats = np.exp(-np.logaddexp(0.0, theta[None, :] - theta[:, None]))
        gradient = (games * beats).sum(axis=1) - counts.sum(axis=1) + 2 * l2 * theta
        weights = games * beats * beats.T
        # the constant direction is flat; the rank-one term pins it
        hessian = np.diag(weights.sum(axis=1) + 2 * l2) - weights + 1.0 / n_items
        step = np.linalg.solve(hessian, gradient)
        size = 1.0  # halved where lopsided wins throw a full Newton step too far
        while size > 1e-8 and objective(theta - size * step) > objective(theta):
            size /= 2
        theta = theta - size * step
        if np.abs(step).max() < 1e-10:
            break
    return theta - theta.mean()


def agreement(choices: ArrayLike) -> Agreement:
    """Pairwise agreement of choices [raters, comparisons] in {-1, 0, 1} (D12, T4); 0 is indifferent or not seen.

    Every pair of raters of a comparison counts unless either is indifferent. NaN without such a pair.
    """
    choices = np.asarray(choices)
    first, second = (choices == 1).sum(axis=0), (choices == -1).sum(axis=0)
    same = int((first * (first - 1) // 2 + second * (second - 1) // 2).sum())
    pairs = same + int((first * second).sum())
    return Agreement(same / pairs if pairs else math.nan, pairs)


def win_rate(
    outcomes: ArrayLike,
    clusters: Sequence[object] | NDArray | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> WinRate:
    """Mean of outcomes in [0, 1] (win 1, tie 0.5, loss 0) with a percentile bootstrap interval over clusters (T3).

    `clusters` names the prompt (or user) of each outcome; without it every outcome is its own.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if ((outcomes < 0) | (outcomes > 1)).any():
        raise ValueError("outcomes are 1 for a win, 0.5 for a tie, 0 for a loss")
    return WinRate(*mean_interval(outcomes, clusters, confidence=confidence, draws=draws, seed=seed))


def accuracy_interval(
    correct: ArrayLike,
    clusters: Sequence[object] | NDArray | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Share of True with its bootstrap interval (R6); pairs of one prompt are one cluster."""
    correct = np.asarray(correct)
    if correct.dtype != np.bool_:
        raise ValueError("accuracy is of True and False")
    return mean_interval(correct, clusters, confidence=confidence, draws=draws, seed=seed)


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[object] | NDArray | None = None,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of values [N] with a percentile bootstrap interval that resamples clusters with replacement (T3).

    A function of the values, the clusters and the seed: the order of the observations does not matter.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError("an interval needs at least one value")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values")
    means = _bootstrap_means(*_cluster_sums(values, clusters), draws, np.random.default_rng(seed))
    low, high = percentile_interval(means, confidence)
    return Interval(float(values.mean()), low, high, values.size)


def percentile_interval(resampled_means: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """The central `confidence` of resampled means, linearly interpolated (T3)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_means, [tail, 1 - tail])
    return float(low), float(high)


def choice_entropy_bits(total_logprobs: ArrayLike) -> Floats:
    """Entropy [N] in bits of the choice between sentences with total log-probabilities [N, choices] in nats (E4)."""
    total_logprobs = np.asarray(total_logprobs, dtype=np.float64)
    logprobs = total_logprobs - np.logaddexp.reduce(total_logprobs, axis=-1, keepdims=True)
    finite = np.maximum(logprobs, np.finfo(np.float64).min)
    return -(np.exp(logprobs) * finite).sum(axis=-1) / math.log(2)


def reward_bias(demonstration_rewards: ArrayLike) -> float:
    """What to add to every reward so that the demonstrations score 0 on average (R5)."""
    return -float(np.mean(np.asarray(demonstration_rewards, dtype=np.float64)))


def _reaches_all(counts: Floats) -> bool:
    """Whether item 0 has a chain of wins to every item."""
    reached = np.zeros(len(counts), dtype=bool)
    frontier = reached.copy()
    frontier[0] = True
    while frontier.any():
        reached |= frontier
        frontier = (counts[frontier] > 0).any(axis=0) & ~reached
    return bool(reached.all())


def _cluster_sums(values: Floats, clusters: Sequence[object] | NDArray | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster."""
    if clusters is None:
        return values, np.ones(values.size)
    if len(clusters) != values.size:
        raise ValueError(f"{values.size} values but {len(clusters)} clusters")
    number = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.fromiter((number[cluster] for cluster in clusters), dtype=np.int64, count=values.size)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)


def _bootstrap_means(sums: Floats, sizes: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means of `draws` resamples of the clusters.

    Clusters of equal sum and size are interchangeable, so that it is enough to draw how many of each kind there are.
    """
    assert draws >= 1000, "a percentile interval needs at least 1,000 draws (T3)"
    kinds, frequency = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    share, n = frequency / frequency.sum(), len(sums)
    means = np.empty(draws)
    chunk = max(1, 2_000_000 // len(frequency))
    for start in range(0, draws, chunk):
        counts = rng.multinomial(n, share, size=min(chunk, draws - start))
        drawn_sums, drawn_sizes = kinds @ counts.T
        means[start : start + chunk] = drawn_sums / drawn_sizes
    return means
