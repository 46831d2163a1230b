"""Over-optimisation: the gold reward over the distance from the start, its peak, and best of n from more samples.

The distance is d = √KL. Source: Gao et al. 2022, "Scaling laws for reward model overoptimization" (O1, O3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from heedful.maths.statistics import Clusters, Floats, Interval, mean_interval, sums_interval

CurveForm = Literal["best_of_n", "rl"]
"""d(α - β d) for best of n, d(α - β ln d) for reinforcement learning."""


class Peak(NamedTuple):
    """Where the fitted gold reward is highest, with its 95 % interval, and its gain there.

    `high` is None where some of the interval does not bend at all, and `low` is None without an interval.
    """

    distance: float
    low: float | None
    high: float | None
    gain: float


class Fit(NamedTuple):
    """The curve of one policy and one reward model. `peak` is None where there is none in the measured range."""

    form: CurveForm
    alpha: Interval
    beta: Interval
    peak: Peak | None
    falls: bool
    """Whether the gold reward falls from the start: alpha is below 0 beyond its interval."""

    def gain(self, distance: float) -> float:
        """The fitted gain in gold reward at a distance."""
        return float(_basis(np.array([distance]), self.form)[0] @ (self.alpha.mean, self.beta.mean))

    def words(self) -> str:
        """The peak in words.

        >>> fit([1.0, 2.0, 3.0], np.tile([1.5, 2.0, 1.5], (2, 1)), "best_of_n").words()
        'peak at √KL 2.00 (too few for an interval), gain 2.000'
        >>> fit([1.0, 2.0, 3.0], np.tile([1.0, 2.0, 3.0], (2, 1)), "best_of_n").words()
        'no peak in range'
        """
        if self.falls:
            return "falls from the start"
        if self.peak is None:
            return "no peak in range"
        at, low, high, gain = self.peak
        bounds = f"{low:.2f} to {'beyond the range' if high is None else f'{high:.2f}'}" if low is not None else ""
        return f"peak at √KL {at:.2f} ({bounds or 'too few for an interval'}), gain {gain:.3f}"


def fit(
    distances: Sequence[float], gains: ArrayLike, form: CurveForm, clusters: Clusters = None, *, seed: int = 0,
    start: float = 0.0,
) -> Fit:  # fmt: skip
    """Fit alpha and beta of the O1 form by least squares to gains [P, D], with bootstrap intervals over clusters.

    `gains` are gold rewards of P prompts at D distances, less that of the distance `start`. `clusters` names the user
    of each prompt. The distances count as exact. A peak counts if it is in the range of the distances above 0 and if
    beta is above 0 beyond its interval. Raises ValueError for fewer than two distances above 0.
    """
    d, terms = np.asarray(distances, dtype=np.float64), _terms(distances, gains, form, start)
    alpha, beta = (mean_interval(column, clusters, seed=seed) for column in terms.T)
    falls = alpha.mean < 0 and (alpha.high is None or alpha.high < 0)
    found = Fit(form, alpha, beta, None, falls)
    if alpha.mean <= 0 or beta.mean <= 0 or (beta.low is not None and beta.low <= 0):
        return found
    at = _peak(beta.mean / alpha.mean, form)
    if not d[d > 0].min() <= at <= d.max():
        return found
    bend = sums_interval(_bend, terms, clusters, n=len(terms), seed=seed)
    low = None if bend.high is None else _peak(bend.high, form)
    high = None if bend.low is None or bend.low <= 0 else _peak(bend.low, form)
    if high is not None and not math.isfinite(high):
        high = None
    return found._replace(peak=Peak(at, low, high, found.gain(at)))


def peak_shift(
    distances: Sequence[float], first: ArrayLike, second: ArrayLike, clusters: Clusters = None, *, seed: int = 0
) -> Interval | None:
    """How much further out √KL of the second curve's fitted best-of-n peak is, with its interval.

    Both gains [P, D] are of the same P prompts, which a resample draws together. None where a curve does not bend.

    >>> one, two = ([d * (a - 0.5 * d) for d in (1.0, 2.0)] for a in (2.0, 3.0))  # peaks at 2 and 3
    >>> round(peak_shift([1.0, 2.0], [one], [two]).mean, 6)
    1.0
    """
    terms = np.hstack([_terms(distances, gains, "best_of_n") for gains in (first, second)])

    def shift(sums: Floats) -> Floats:
        bends = np.column_stack([_bend(sums[:, :2]), _bend(sums[:, 2:])])
        peaks = np.divide(0.5, bends, out=np.full_like(bends, math.nan), where=bends > 0)
        moved: Floats = peaks[:, 1] - peaks[:, 0]
        return moved

    found = sums_interval(shift, terms, clusters, n=len(terms), seed=seed)
    return None if math.isnan(found.mean) else found


def _terms(distances: Sequence[float], gains: ArrayLike, form: CurveForm, start: float = 0.0) -> Floats:
    """Alpha and beta [P, 2] of each prompt. Least squares is linear in the gains, so those of the curve are means."""
    d = np.asarray(distances, dtype=np.float64)
    if len(set(d[d > 0])) < 2:
        raise ValueError("a fit needs two different distances above 0")
    basis = _basis(d, form) - _basis(np.array([start]), form)
    terms: Floats = np.asarray(gains, dtype=np.float64) @ np.linalg.pinv(basis).T
    return terms


def _basis(d: Floats, form: CurveForm) -> Floats:
    """The columns [D, 2] that alpha and beta multiply. Both are 0 at distance 0."""
    slow = d if form == "best_of_n" else np.log(np.where(d > 0, d, 1.0))
    return np.column_stack([d, -d * slow])


def _bend(sums: Floats) -> Floats:
    """beta / alpha of sums [draws, 2], NaN where alpha is not above 0. Both peaks fall as it grows."""
    alpha, beta = sums.T
    return np.divide(beta, alpha, out=np.full_like(beta, math.nan), where=alpha > 0)


def _peak(bend: float, form: CurveForm) -> float:
    """The distance of the peak: alpha / (2 beta), or exp(alpha / beta - 1)."""
    return 1 / (2 * bend) if form == "best_of_n" else float(np.exp(np.float64(min(1 / bend - 1, 700.0))))


def best_of_n_weights(total: int, n: int) -> Floats:
    """Chance of each of `total` samples, worst first, to be the best of n drawn without replacement (O3).

    C(i, n - 1) / C(total, n) for the i-th from 0.

    >>> best_of_n_weights(4, 2).round(4).tolist()  # of 6 pairs, the best is in 3 and the worst in none
    [0.0, 0.1667, 0.3333, 0.5]
    """
    if not 1 <= n <= total:
        raise ValueError(f"best of {n} needs {n} samples, not {total}")
    i = np.arange(total - 1, 0, -1)
    falling = np.maximum(i - n + 1, 0) / i  # weight i - 1 over weight i
    return (n / total * np.concatenate([[1.0], np.cumprod(falling)]))[::-1]


def best_of_n_means(proxy: ArrayLike, values: ArrayLike, ns: Sequence[int]) -> Floats:
    """Expected value [P, len(ns)] of the best of n by the proxy, for P prompts with N samples each (O3).

    It is unbiased and uses all N samples for each n. Samples with equal proxies share their chances.
    """
    proxy, values = np.asarray(proxy, dtype=np.float64), np.asarray(values, dtype=np.float64)
    weights = np.stack([best_of_n_weights(proxy.shape[1], n) for n in ns])
    found = np.empty((len(proxy), len(ns)))
    for row, (scores, own) in enumerate(zip(proxy, values, strict=True)):
        order = np.argsort(scores, kind="stable")
        _, starts, counts = np.unique(scores[order], return_index=True, return_counts=True)
        found[row] = np.add.reduceat(weights, starts, axis=1) @ (np.add.reduceat(own[order], starts) / counts)
    return found
