"""Comparisons of several models: the Bradley-Terry scale, win rates at equal length, prompts still needed.

Needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.maths.statistics import FEWEST, Clusters, Floats, Interval, WinRate, numbered, student, sums_interval

RIDGE = 0.01  # pull of a scale towards 0 where its maximum likelihood has no end
STEPS = 200  # Newton steps, of which 10 are usual
STEEPEST = 12.0  # a coefficient beyond this says that a feature separates wins from losses
_POWER = 0.8416212335729143  # the normal quantile of 0.8
_Z = 1.959963984540054


class Scale(NamedTuple):
    """Strengths with mean 0, one a model. `P(i beats j) = 1 / (1 + exp(strength_j - strength_i))` (T1)."""

    strengths: list[Interval]
    regularised: bool
    """Whether the data alone give no finite scale, as where one model wins everything."""


class Controlled(NamedTuple):
    """The win rate where both sides have equal features, or the reason why there is none."""

    rate: WinRate | None
    why: str | None


def strengths(wins: ArrayLike, ridge: float = 0.0) -> Floats:
    """Bradley-Terry strengths [..., M], mean 0, from wins [..., M, M]: row i over column j, ties half each (T1).

    The maximum of the log-likelihood less `ridge` times the squared strengths, by Newton's method on many matrices at
    once. NaN where it has no finite maximum.

    >>> [round(float(x), 4) for x in strengths([[0, 3], [1, 0]])]  # log(3) apart
    [0.5493, -0.5493]
    """
    wins = np.asarray(wins, dtype=np.float64)
    shape, M = wins.shape[:-2], wins.shape[-1]
    won = wins.reshape(-1, M, M)
    games = won + won.swapaxes(1, 2)
    found = np.zeros((len(won), M))
    finite = np.ones(len(won), dtype=bool) if ridge else connected(won)
    going = np.flatnonzero(finite)
    ones = np.full((M, M), 1.0 / M)
    for _ in range(STEPS):
        if not going.size:
            break
        theta, n = found[going], games[going]
        p = 1 / (1 + np.exp(theta[:, None, :] - theta[:, :, None]))
        slope = won[going].sum(axis=2) - (n * p).sum(axis=2) - 2 * ridge * theta
        curve = n * p * (1 - p)
        hessian = -curve
        hessian[:, range(M), range(M)] = curve.sum(axis=2) - curve[:, range(M), range(M)] + 2 * ridge
        step = np.linalg.solve(hessian + ones, slope[..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
        found[going] += step
        going = going[np.abs(step).max(axis=1) > 1e-10]
    found -= found.mean(axis=1, keepdims=True)
    found[~finite] = math.nan
    return found.reshape(*shape, M)


def connected(wins: Floats) -> NDArray[np.bool_]:
    """Whether each matrix of wins [N, M, M] is strongly connected, so that its scale is finite (T1)."""
    M = wins.shape[-1]
    reach = (wins > 0) | np.eye(M, dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(M)))):
        reach = np.einsum("nij,njk->nik", reach.astype(np.int64), reach.astype(np.int64)) > 0
    return np.asarray(reach.all(axis=(1, 2)))


def bradley_terry(wins: ArrayLike, clusters: Clusters = None, *, draws: int = 1000, seed: int = 0) -> Scale:
    """The scale of M models from wins [N, M, M], one matrix a prompt, with bootstrap intervals over clusters (T1, T3).

    Where the wins are not strongly connected, the scale is that of `RIDGE` and has no intervals.
    """
    wins = np.asarray(wins, dtype=np.float64)
    N, M = wins.shape[:2]
    total = wins.sum(axis=0)
    if not connected(total[None])[0]:
        return Scale([Interval(float(x), None, None, N) for x in strengths(total, RIDGE)], True)
    terms = wins.reshape(N, M * M)
    return Scale(
        [
            sums_interval(
                lambda sums, m=model: strengths(sums.reshape(-1, M, M))[:, m],  # type: ignore[misc]
                terms, clusters, n=N, draws=draws, seed=seed,
            )
            for model in range(M)
        ],
        False,
    )  # fmt: skip


def controlled_rate(
    outcomes: ArrayLike, differences: ArrayLike, clusters: Clusters = None, weights: ArrayLike | None = None
) -> Controlled:
    """Win rate of outcomes [N] in [0, 1] at equal features, from their differences [N, F] between the two sides.

    A logistic regression of the outcomes on the differences, each divided by its root mean square and passed through
    tanh, read at 0. tanh keeps a few large differences from bending the line. Its interval is that of the cluster
    sandwich with Student's quantiles. Source: Dubois et al. 2024, Length-Controlled AlpacaEval.
    """
    y, x = np.asarray(outcomes, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = numbered(clusters if clusters is not None else range(len(y)))
    count = int(groups.max(initial=-1)) + 1
    x = x[:, np.any(x != 0, axis=0)]
    if count < FEWEST:
        return Controlled(None, f"fewer than {FEWEST} prompts or users")
    if np.ptp(y) == 0:
        kind = {0.0: "a loss", 0.5: "a tie", 1.0: "a win"}.get(float(y[0]), "the same")
        return Controlled(None, f"every outcome is {kind}")
    if x.shape[1] and (x[:, 0].min() > 0 or x[:, 0].max() < 0):
        return Controlled(None, "one model's answer is longer on every prompt")
    features = np.column_stack([np.ones(len(y)), np.tanh(x / np.sqrt(np.average(x**2, axis=0, weights=w)))])
    found = _logistic(features, y, w)
    if found is None:
        return Controlled(None, "the differences tell wins from losses without an error")
    beta, bread, slopes = found
    sums = np.zeros((count, len(beta)))
    np.add.at(sums, groups, slopes)
    variance = float((bread @ (sums.T @ sums) @ bread)[0, 0]) * count / (count - 1)
    half = student(count - 1) * math.sqrt(variance)
    low, rate, high = (1 / (1 + math.exp(-(beta[0] + move))) for move in (-half, 0.0, half))
    return Controlled(WinRate(rate, low, high, len(y)), None)


def _logistic(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats, Floats] | None:
    """Coefficients, inverse Hessian and slopes of the rows at the maximum of the weighted likelihood, if there is one.

    Outcomes may lie between 0 and 1.
    """
    beta: Floats = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-x @ beta))
        slopes: Floats = x * (w * (y - p))[:, None]
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x
        try:
            bread: Floats = np.linalg.inv(hessian).astype(np.float64)
        except np.linalg.LinAlgError:
            return None
        step = bread @ slopes.sum(axis=0)
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(beta).max() > STEEPEST:
            return None
        if np.abs(step).max() < 1e-9:
            return beta, bread, slopes
    return None


def prompts_needed(found: WinRate | dict[str, Any]) -> int | None:
    """How many more prompts would settle an open comparison, if the rate stays as it is. 0: it is settled.

    The interval shrinks with the root of the number of prompts. The number gives it an 80 % chance to leave out one
    half. None without an interval, or at a rate of exactly one half, which no number settles.

    >>> prompts_needed(WinRate(0.55, 0.45, 0.65, 100))  # half a width of 0.1 must become 0.05 / 1.43
    718
    """
    rate, low, high, n = found if isinstance(found, tuple) else tuple(found[k] for k in ("rate", "low", "high", "n"))
    if low is None or high is None:
        return None
    if low > 0.5 or high < 0.5:
        return 0
    away = abs(rate - 0.5)
    if away < 1e-9:
        return None
    return max(1, math.ceil(n * ((high - low) / 2 / away * (1 + _POWER / _Z)) ** 2) - n)


def agreement_of(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, int]:
    """Share of comparisons that two judges decide alike, of those that neither ties (D12), and their number.

    >>> agreement_of([1.0, 0.0, 0.5, 0.75], [1.0, 1.0, 0.0, 1.0])
    (0.6666666666666666, 3)
    """
    sides = np.sign(np.asarray(one) - 0.5) * np.sign(np.asarray(other) - 0.5)
    decided = int((sides != 0).sum())
    return (float((sides > 0).sum() / decided) if decided else None), decided
