"""The Bradley-Terry scale against choix, win rates at equal length, prompts needed: by hand and by other code."""

from __future__ import annotations

import math

import choix
import numpy as np
import pytest

from heedful.maths.comparisons import (
    RIDGE,
    agreement_of,
    bradley_terry,
    connected,
    controlled_rate,
    prompts_needed,
    strengths,
)
from heedful.maths.statistics import WinRate

CYCLE = np.array([[0, 5, 3, 1], [2, 0, 4, 2], [1, 2, 0, 6], [1, 0, 3, 0]], dtype=float)
BEATEN = np.array([[0, 5, 3], [0, 0, 2], [0, 4, 0]], dtype=float)  # the first wins everything


def pairs(wins: np.ndarray) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(wins)) for j in range(len(wins)) for _ in range(int(wins[i, j]))]


def test_strengths_are_those_of_choix() -> None:
    assert strengths(CYCLE) == pytest.approx(choix.opt_pairwise(4, pairs(CYCLE), alpha=0.0, tol=1e-10), abs=1e-5)
    assert strengths(BEATEN, RIDGE) == pytest.approx(choix.opt_pairwise(3, pairs(BEATEN), alpha=RIDGE), abs=1e-5)
    both = strengths(np.stack([CYCLE, CYCLE.T]))
    assert both[0] == pytest.approx(-both[1])


def test_a_scale_is_finite_where_the_wins_are_strongly_connected() -> None:
    assert connected(np.stack([BEATEN, np.ones((3, 3))])).tolist() == [False, True]
    assert np.isnan(strengths(BEATEN)).all()
    chain = np.zeros((5, 5))
    chain[range(5), [1, 2, 3, 4, 0]] = 1  # a beats b beats c beats d beats e beats a
    assert connected(chain[None]).tolist() == [True]
    assert strengths(chain) == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_scale_of_two_models_is_the_logit_of_their_win_rate() -> None:
    """30 of 40 won by the first, and its interval covers the width of the logit's normal interval."""
    wins = np.zeros((40, 2, 2))
    wins[:30, 0, 1] = 1
    wins[30:, 1, 0] = 1
    scale = bradley_terry(wins)
    assert not scale.regularised
    first = scale.strengths[0]
    assert first.mean == pytest.approx(math.log(3) / 2)
    error = 1 / math.sqrt(40 * 0.75 * 0.25) / 2
    assert first.low is not None
    assert first.high is not None
    assert (first.high - first.low) == pytest.approx(2 * 1.96 * error, rel=0.15)
    few = bradley_terry(wins[25:34])
    assert few.strengths[0].low is None  # nine prompts
    won = bradley_terry(wins[:30])
    assert (won.regularised, won.strengths[0].low) == (True, None)


def lengths(rng: np.random.Generator, n: int, ratio: float) -> np.ndarray:
    """Differences of the logarithm of lognormal lengths. The first side is longer by `ratio`."""
    return rng.normal(math.log(ratio), 0.85, n)


@pytest.mark.parametrize("ratio", [1.3, 2.0])
@pytest.mark.parametrize("judge", ["coin", "flips"])
def test_a_noisy_judge_of_length_alone_gives_one_half(judge: str, ratio: float) -> None:
    """Raw, the longer side wins 57 to 72 %."""
    rng = np.random.default_rng(5)
    x = lengths(rng, 3000, ratio)
    chance = 1 / (1 + np.exp(-2 * x)) if judge == "coin" else np.where(x > 0, 0.8, 0.2)
    y = (rng.random(3000) < chance).astype(float)
    assert y.mean() > 0.56
    found = controlled_rate(y, x[:, None]).rate
    assert found is not None
    assert found.rate == pytest.approx(0.5, abs=0.03)


def test_what_length_does_not_explain_stays() -> None:
    """One side wins 70 %, whatever its length: the fit agrees with the raw rate and with the width of its interval."""
    rng = np.random.default_rng(1)
    y = (rng.random(2000) < 0.7).astype(float)
    found = controlled_rate(y, rng.normal(0, 1, (2000, 2))).rate
    assert found is not None
    assert found.rate == pytest.approx(y.mean(), abs=0.005)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 / 2000), rel=0.05)
    nothing = controlled_rate(y, np.zeros((2000, 2))).rate
    assert nothing is not None
    assert nothing.rate == pytest.approx(y.mean())


@pytest.mark.medium
def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    """At the coefficients of a logistic regression the residuals are orthogonal to the features. Found by a search."""
    x = np.array([-2.0, -1, -1, 0, 0, 1, 1, 2, 3, -3, 1, -2])
    y = np.array([0.0, 0, 1, 1, 0, 1, 0.5, 1, 1, 0.5, 0, 1])
    z = np.tanh(x / np.sqrt(np.mean(x**2)))
    grid = np.linspace(-2, 2, 801)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    line = a[..., None] + b[..., None] * z
    best = np.unravel_index(np.argmax((y * line - np.logaddexp(0, line)).sum(axis=-1)), a.shape)
    found = controlled_rate(y, x[:, None]).rate
    assert found is not None
    assert found.rate == pytest.approx(1 / (1 + math.exp(-grid[best[0]])), abs=2e-3)


def test_users_widen_the_controlled_interval_and_weights_count() -> None:
    rng = np.random.default_rng(2)
    y, x = np.repeat((rng.random(50) < 0.6).astype(float), 4), rng.normal(0, 1, (200, 1))
    alone, users = controlled_rate(y, x).rate, controlled_rate(y, x, np.repeat(range(50), 4)).rate
    assert alone is not None
    assert users is not None
    assert users.rate == alone.rate
    assert (users.high - users.low) == pytest.approx(2 * (alone.high - alone.low), rel=0.1)  # type: ignore[operator]
    doubled = controlled_rate(
        np.append(y, y[:100]), np.vstack([x, x[:100]]), weights=[0.5] * 100 + [1] * 100 + [0.5] * 100
    )
    assert doubled.rate is not None
    assert doubled.rate.rate == pytest.approx(alone.rate)


@pytest.mark.parametrize(
    ("y", "x", "why"),
    [
        ([1, 0] * 4, [1, -1] * 4, "fewer than 10 prompts or users"),
        ([1] * 20, [1, -1] * 10, "every outcome is a win"),
        ([0.5] * 20, [1, -1] * 10, "every outcome is a tie"),
        ([1, 0] * 10, range(1, 21), "one model's answer is longer on every prompt"),
        ([1, 0] * 10, [2, -1] * 10, "the differences tell wins from losses without an error"),
    ],
)
def test_where_there_is_no_controlled_rate_the_reason_is_given(y: list[float], x: list[float], why: str) -> None:
    assert controlled_rate(y, np.array(x, dtype=float)[:, None]) == (None, why)


def test_prompts_that_would_settle_a_comparison() -> None:
    """55 % of 100 with an interval of ± 10: (10 / 5 * (1.96 + 0.84) / 1.96) squared times 100, less the 100."""
    assert (
        prompts_needed(WinRate(0.55, 0.45, 0.65, 100)) == math.ceil(100 * (2 * 2.801585 / 1.959964) ** 2) - 100 == 718
    )
    assert prompts_needed({"rate": 0.45, "low": 0.35, "high": 0.55, "n": 100}) == 718
    assert prompts_needed(WinRate(0.65, 0.55, 0.75, 100)) == 0
    assert prompts_needed(WinRate(0.5, 0.4, 0.6, 100)) is None
    assert prompts_needed(WinRate(0.55, None, None, 9)) is None


def test_agreement_of_judges() -> None:
    assert agreement_of([1, 0, 0.5, 0.75], [1, 1, 0, 1]) == (pytest.approx(2 / 3), 3)
    assert agreement_of([0.5], [1]) == (None, 0)
