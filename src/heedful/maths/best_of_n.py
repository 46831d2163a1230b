"""Best of n samples: its KL, its score from more samples, and over-optimisation. Conventions: docs/conventions.md."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def kl(n: int) -> float:
    """KL in nats of best of n from the policy it samples (O2): ln n - (n - 1) / n; an upper bound if scores can tie."""
    return math.log(n) - (n - 1) / n


def discrete_probs(base_probs_V: ArrayLike, n: int) -> Floats:
    """Probabilities of best of n where the base policy has finitely many outcomes, listed worst to best (O2)."""
    cumulative_V = np.concatenate([[0.0], np.cumsum(np.asarray(base_probs_V, dtype=np.float64))])
    return np.diff(cumulative_V**n)


def discrete_kl(base_probs_V: ArrayLike, n: int) -> float:
    """Exact KL in nats of best of n from a base policy with finitely many outcomes, listed worst to best (O2)."""
    base_V, best_V = np.asarray(base_probs_V, dtype=np.float64), discrete_probs(base_probs_V, n)
    possible_V = best_V > 0
    return float((best_V[possible_V] * np.log(best_V[possible_V] / base_V[possible_V])).sum())


def expected_best(proxy_N: ArrayLike, scores_N: ArrayLike, n: int) -> float:
    """Mean score of the sample that is best of n by the proxy, over all n-subsets of N samples (O3).

    `scores_N` is the proxy itself or the gold score. Samples of equal proxy are chosen among at random.
    """
    proxy_N, scores_N = np.asarray(proxy_N, dtype=np.float64), np.asarray(scores_N, dtype=np.float64)
    N = proxy_N.size
    if not 1 <= n <= N:
        raise ValueError(f"best of {n} needs at least {n} samples and n of at least 1, not {N} samples")
    # weight of the i-th smallest is C(i, n-1) / C(N, n): n / N for the largest, then ratios of neighbours
    below = np.arange(N - 1, 0, -1)
    weights_N = np.cumprod(np.concatenate([[n / N], (below - n + 1) / below]))[::-1]
    _, tie_N, size = np.unique(proxy_N, return_inverse=True, return_counts=True)
    tie_weights = np.bincount(tie_N, weights=weights_N[np.argsort(np.argsort(proxy_N, kind="stable"))])
    return float((tie_weights / size)[tie_N] @ scores_N)


def gold_best_of_n(d: ArrayLike, alpha: float, beta: float) -> Floats:
    """Gold score of best of n at d = sqrt(KL): d * (alpha - beta * d), 0 at d = 0 (O1)."""
    d = np.asarray(d, dtype=np.float64)
    return d * (alpha - beta * d)


def gold_rl(d: ArrayLike, alpha: float, beta: float) -> Floats:
    """Gold score of RL at d = sqrt(KL): d * (alpha - beta * ln d) (O1); not meant near 0, where it is too steep."""
    d = np.asarray(d, dtype=np.float64)
    return d * alpha - beta * d * np.log(np.where(d > 0, d, 1.0))


def peak_best_of_n(alpha: float, beta: float) -> tuple[float, float]:
    """(d, gold score) where `gold_best_of_n` is highest (O1)."""
    return alpha / (2 * beta), alpha**2 / (4 * beta)


def peak_rl(alpha: float, beta: float) -> tuple[float, float]:
    """(d, gold score) where `gold_rl` is highest (O1)."""
    d = math.exp(alpha / beta - 1)
    return d, beta * d
