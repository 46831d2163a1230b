"""One order from many rankings: Bradley-Terry-Davidson with the reliability of each labeler, estimated together.

d = reliability of the labeler * (strength_i - strength_j);
P(i before j) : P(tie) : P(j before i) = exp(d / 2) : tie : exp(-d / 2).
docs/quality.md has the priors, the weights and the algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.quality.types import ItemKey, Judgement, Ranking, latest
from heedful.maths.statistics import Floats

JudgedUnits = Mapping[ItemKey, Mapping[str, Judgement]]

USUAL, RELIABILITY_SPREAD = 1.0, 0.5  # mean and standard deviation of the prior of a reliability
TIE_SPREAD = 2.0  # of the prior of log tie, around 0
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


@dataclass(frozen=True)
class Aggregate:
    """One item: strengths [K] with mean 0, their covariance [K, K], and the number of judgements behind them."""

    item: ItemKey
    strengths: Floats
    covariance: Floats
    judgements: int

    def better(self, i: int, j: int) -> float:
        """Probability that completion i is better than j."""
        c = self.covariance
        spread = math.sqrt(2 * (c[i, i] + c[j, j] - 2 * c[i, j]))
        return 0.5 * math.erfc((self.strengths[j] - self.strengths[i]) / spread)

    def uncertainty(self) -> float:
        """Entropy in bits of which of two completions is better, averaged over pairs. 1: nothing is known."""
        chances = [self.better(i, j) for i, j in combinations(range(len(self.strengths)), 2)]
        return sum(_entropy_bits(chance) for chance in chances) / max(1, len(chances))

    def ranking(self, sure: float = 0.525) -> Ranking:
        """Tiers, best first. A new tier starts where it is worse than the tier before with probability `sure`."""
        tiers: list[list[int]] = []
        for k in np.argsort(-self.strengths, kind="stable").tolist():
            if tiers and self.better(tiers[-1][0], k) < sure:
                tiers[-1].append(k)
            else:
                tiers.append([k])
        return tuple(tuple(sorted(tier)) for tier in tiers)


@dataclass(frozen=True)
class Consensus:
    """`reliability` of a labeler: about 1 is usual, 0 chance, under 0 against the others. `tie`: of the model."""

    items: dict[ItemKey, Aggregate]
    reliability: dict[str, float]
    tie: float


def aggregate(judgements: Iterable[Judgement], known: Consensus | None = None, *, rounds: int = 100) -> Consensus:
    """Strengths of every item's completions, reliability of every labeler, and the tie parameter.

    With `known`, its reliabilities (1 for labelers it does not have) and its tie parameter are kept, for the items of
    one page. Groups are mixed: give the judgements of one group to keep them apart.
    """
    judged = latest(judgements)
    known = known or _learn(judged, rounds)
    data = _Data.of(judged)
    reliability = np.array([known.reliability.get(name, USUAL) for name in data.labelers])
    log_tie = math.log(known.tie) if known.tie > 0 else -math.inf
    strengths_BK, covariance_BKK = _strengths(data, np.zeros(data.shape), reliability, log_tie)
    items = {
        item: Aggregate(item, strengths_BK[index, :K], covariance_BKK[index, :K, :K], n)
        for index, (item, K, n) in enumerate(zip(data.items, data.sizes, data.judgements, strict=True))
    }
    return Consensus(items, dict(zip(data.labelers, reliability.tolist(), strict=True)), known.tie)


def _learn(judged: JudgedUnits, rounds: int) -> Consensus:
    """Learn reliabilities and the tie parameter from items with several labelers. Without any, learn only the tie."""
    shared = {item: by_labeler for item, by_labeler in judged.items() if len(by_labeler) > 1}
    data = _Data.of(shared or judged)
    reliability, log_tie = np.full(len(data.labelers), USUAL), 0.0
    strengths_BK, covariance_BKK = _strengths(data, np.zeros(data.shape), reliability, log_tie)
    for _ in range(rounds):
        before = reliability, log_tie
        if shared:
            reliability = _reliability(data, strengths_BK, covariance_BKK, *before)
        log_tie = _log_tie(data, strengths_BK, covariance_BKK, *before)
        strengths_BK, covariance_BKK = _strengths(data, strengths_BK, reliability, log_tie)
        moved = np.abs(reliability - before[0]).max(initial=0.0)
        if max(moved, abs(log_tie - before[1])) < 1e-4:
            break
    return Consensus({}, dict(zip(data.labelers, reliability.tolist(), strict=True)), math.exp(log_tie))


@dataclass(frozen=True)
class _Data:
    """Pairs of completions as judged, N in all: item, first and second completion, labeler, side (1, 0, -1), weight.

    A ranking of K counts as K - 1 pairs, since the order of its K(K-1)/2 pairs hangs together: each weighs 2 / K.
    """

    items: tuple[ItemKey, ...]
    sizes: tuple[int, ...]
    judgements: tuple[int, ...]
    labelers: tuple[str, ...]
    item: NDArray[np.int64]
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    labeler: NDArray[np.int64]
    side: NDArray[np.int64]
    weight: Floats

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.items), max(self.sizes, default=1)

    @staticmethod
    def of(judged: JudgedUnits) -> _Data:
        labelers: dict[str, int] = {}
        rows: list[tuple[int, int, int, int, int]] = []
        sizes, weights = [], []
        for index, by_labeler in enumerate(judged.values()):
            sizes.append(max(judgement.K for judgement in by_labeler.values()))
            for name, judgement in by_labeler.items():
                number = labelers.setdefault(name, len(labelers))
                pairs = judgement.preferences().items()
                rows += [(index, i, j, number, side) for (i, j), side in pairs]
                weights += [2.0 / judgement.K] * len(pairs)
        item, i, j, labeler, side = np.array(rows, dtype=np.int64).reshape(-1, 5).T
        counts = tuple(len(by_labeler) for by_labeler in judged.values())
        weight = np.array(weights, dtype=np.float64)
        return _Data(tuple(judged), tuple(sizes), counts, tuple(labelers), item, i, j, labeler, side, weight)


def _strengths(data: _Data, start_BK: Floats, reliability: Floats, log_tie: float) -> tuple[Floats, Floats]:
    """Each item's strengths at the maximum of the posterior (standard normal prior) by Newton, and the covariance."""
    theta_BK, (B, K) = start_BK, data.shape
    scale, at_i, at_j = reliability[data.labeler], data.item * K + data.i, data.item * K + data.j
    hessian_BKK = np.tile(np.eye(K), (B, 1, 1))

    def posterior_B(theta_BK: Floats) -> Floats:
        d = scale * (theta_BK.flat[at_i] - theta_BK.flat[at_j])
        fit = np.bincount(data.item, data.weight * _log_likelihood(d, data.side, log_tie), B)
        return fit - 0.5 * (theta_BK**2).sum(axis=1)

    for _ in range(50):
        d = scale * (theta_BK.flat[at_i] - theta_BK.flat[at_j])
        slope, bend = _derivatives(d, data.side, log_tie)
        slope, bend = data.weight * scale * slope, data.weight * scale**2 * bend
        pull_BK = np.bincount(at_i, slope, B * K) - np.bincount(at_j, slope, B * K)
        gradient_BK = pull_BK.reshape(B, K) - theta_BK
        hessian_BKK = _hessian(data, bend)
        step_BK = np.linalg.solve(hessian_BKK, gradient_BK[..., None])[..., 0]
        size_B, now_B = np.ones(B), posterior_B(theta_BK)
        for _ in range(20):  # halve steps that overshoot
            worse_B = posterior_B(theta_BK + size_B[:, None] * step_BK) < now_B - 1e-12
            if not worse_B.any():
                break
            size_B[worse_B] /= 2
        theta_BK = theta_BK + size_B[:, None] * step_BK
        if np.abs(step_BK).max(initial=0.0) < 1e-8:
            break
    return theta_BK, np.asarray(np.linalg.inv(hessian_BKK), dtype=np.float64)


def _hessian(data: _Data, bend: Floats) -> Floats:
    """Negative second derivatives [B, K, K] of the log-posterior in the strengths."""
    B, K = data.shape
    flat = np.zeros(B * K * K)
    for one, other, sign in ((data.i, data.i, 1), (data.j, data.j, 1), (data.i, data.j, -1), (data.j, data.i, -1)):
        flat += np.bincount((data.item * K + one) * K + other, sign * bend, flat.size)
    return flat.reshape(B, K, K) + np.eye(K)


def _reliability(
    data: _Data, strengths_BK: Floats, covariance_BKK: Floats, reliability: Floats, log_tie: float
) -> Floats:
    """A Newton step of each reliability, in expectation over the posterior of the strengths.

    At the point estimates, labelers of items that few others judged would look reliable.
    """
    gap_NQ, weight_NQ = _gaps(data, strengths_BK, covariance_BKK)
    slope_NQ, bend_NQ = _derivatives(reliability[data.labeler][:, None] * gap_NQ, data.side[:, None], log_tie)
    n, precision = len(data.labelers), RELIABILITY_SPREAD**-2
    gradient = np.bincount(data.labeler, (weight_NQ * gap_NQ * slope_NQ).sum(axis=1), n)
    hessian = np.bincount(data.labeler, (weight_NQ * gap_NQ**2 * bend_NQ).sum(axis=1), n)
    step = (gradient - precision * (reliability - USUAL)) / (hessian + precision)
    return reliability + np.clip(step, -0.5, 0.5)


def _log_tie(data: _Data, strengths_BK: Floats, covariance_BKK: Floats, reliability: Floats, log_tie: float) -> float:
    """A Newton step of the logarithm of the tie parameter, in the same expectation."""
    gap_NQ, weight_NQ = _gaps(data, strengths_BK, covariance_BKK)
    tie_NQ = _tie_chance(reliability[data.labeler][:, None] * gap_NQ, log_tie)
    precision = TIE_SPREAD**-2
    gradient = (weight_NQ * ((data.side == 0)[:, None] - tie_NQ)).sum() - precision * log_tie
    step = gradient / ((weight_NQ * tie_NQ * (1 - tie_NQ)).sum() + precision)
    return log_tie + float(np.clip(step, -1.0, 1.0))


def _gaps(data: _Data, strengths_BK: Floats, covariance_BKK: Floats) -> tuple[Floats, Floats]:
    """Gauss-Hermite nodes [N, nodes] of the difference of strengths of each pair, and their weights."""
    c, at, i, j = covariance_BKK, data.item, data.i, data.j
    spread_N = np.sqrt(c[at, i, i] + c[at, j, j] - 2 * c[at, i, j])
    gap_N = strengths_BK[at, i] - strengths_BK[at, j]
    return gap_N[:, None] + spread_N[:, None] * NODES, data.weight[:, None] * NODE_WEIGHTS


def _log_likelihood(d: Floats, side: NDArray[np.int64], log_tie: float) -> Floats:
    total = np.logaddexp(np.logaddexp(d / 2, -d / 2), log_tie)
    return np.where(side == 0, log_tie, side * d / 2) - total


def _derivatives(d: Floats, side: NDArray[np.int64], log_tie: float) -> tuple[Floats, Floats]:
    """First and negative second derivative of the log-likelihood in d."""
    tie = _tie_chance(d, log_tie)
    lead = (1 - tie) * np.tanh(d / 2)  # P(i before j) - P(j before i)
    return (side - lead) / 2, (1 - tie - lead**2) / 4


def _tie_chance(d: Floats, log_tie: float) -> Floats:
    return np.exp(log_tie - np.logaddexp(np.logaddexp(d / 2, -d / 2), log_tie))


def _entropy_bits(chance: float) -> float:
    return -sum(p * math.log2(p) for p in (chance, 1 - chance) if p > 0)
