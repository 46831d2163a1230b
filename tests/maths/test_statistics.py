from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths import statistics
from maths import golden


@golden.cases("statistics", "krippendorff")
def test_golden_alpha(case):
    ratings = np.array(case.inputs["ratings"], dtype=float)
    case.check({level: statistics.krippendorff_alpha(ratings, level) for level in ("nominal", "ordinal", "interval")})


@golden.cases("statistics", "bradley_terry")
def test_golden_bradley_terry(case):
    wins, n_items = case.inputs["wins"], case.inputs["n_items"]
    strengths = statistics.bradley_terry(wins, n_items)
    case.check(
        {
            "log_strengths_mle": strengths,
            "log_strengths_l2_0p01": statistics.bradley_terry(wins, n_items, l2=0.01),
            "prob_0_beats_1": 1 / (1 + math.exp(strengths[1] - strengths[0])),
        }
    )


@golden.cases("statistics", "agreement")
def test_golden_agreement(case):
    rate, pairs = statistics.agreement(case.inputs["choices"])
    case.check({"pairs": pairs, "agreement": rate})


@golden.cases("statistics", "win_rate_bootstrap")
def test_golden_win_rate(case):
    outcomes = np.array(case.inputs["outcomes"])
    resampled = outcomes[np.array(case.inputs["resample_indices"])].mean(axis=1)
    low, high = statistics.percentile_interval(resampled, case.inputs["confidence"])
    case.check(
        {
            "win_rate": statistics.win_rate(outcomes).rate,
            "ci_low": low,
            "ci_high": high,
            "bootstrap_se": resampled.std(ddof=1),
        }
    )


@golden.cases("statistics", "choice_entropy_bits")
def test_golden_choice_entropy(case):
    bits = statistics.choice_entropy_bits(case.inputs["total_logprobs"])
    case.check({"entropy_bits": bits, "mean_entropy_bits": bits.mean()})


def test_alpha_is_nan_where_it_is_undefined():
    nan = math.nan
    assert math.isnan(statistics.krippendorff_alpha([[3, 3], [3, 3]], "nominal"))
    assert math.isnan(statistics.krippendorff_alpha([[1, nan], [nan, 2]], "nominal"))
    assert math.isnan(statistics.krippendorff_alpha([[3, 3, 1], [3, 3, nan]], "ordinal"))
    assert statistics.krippendorff_alpha([[3, 1, 5], [3, 1, nan]], "ordinal") == pytest.approx(1.0)


def test_bradley_terry_of_two_is_the_log_odds():
    strengths = statistics.bradley_terry([(0, 1)] * 3 + [(1, 0)], 2)
    np.testing.assert_allclose(strengths, [math.log(3) / 2, -math.log(3) / 2])


def test_bradley_terry_of_lopsided_wins_converges():
    wins = [(i, i + 1) for i in range(9)] * 400 + [(i + 1, i) for i in range(9)]
    np.testing.assert_allclose(-np.diff(statistics.bradley_terry(wins, 10)), [math.log(400)] * 9, rtol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 0.1, 100.0])
def test_bradley_terry_solves_its_equations_where_plain_newton_steps_run_away(l2):
    counts = np.array([[0, 6241, 0, 1103], [1, 0, 1675, 0], [0, 1, 0, 5], [0, 0, 1, 0]])
    wins = np.repeat(np.argwhere(counts), counts[counts > 0], axis=0)
    strengths = statistics.bradley_terry(wins, 4, l2)
    beats = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    expected_wins = ((counts + counts.T) * beats).sum(axis=1) + 2 * l2 * strengths
    np.testing.assert_allclose(expected_wins, counts.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("wins", [[(0, 1), (0, 2), (1, 2), (2, 1)], [(1, 0), (2, 0), (1, 2), (2, 1)], [(0, 1), (1, 0)]])
def test_bradley_terry_without_an_answer_needs_the_penalty(wins):
    with pytest.raises(ValueError, match="l2"):
        statistics.bradley_terry(wins, 3)
    strengths = statistics.bradley_terry(wins, 3, l2=0.1)
    assert np.isfinite(strengths).all()
    assert strengths.sum() == pytest.approx(0.0)


def test_agreement_by_hand():
    assert statistics.agreement([[1, 1, 0, 0], [1, -1, 1, 0], [-1, -1, 1, 1]]) == (3 / 7, 7)
    rate, pairs = statistics.agreement([[0, 1], [1, 0]])
    assert math.isnan(rate)
    assert pairs == 0


def test_win_rate_counts_a_tie_as_half_and_refuses_what_is_no_outcome():
    assert statistics.win_rate([1, 0, 0.5, 0.5, 1]).rate == pytest.approx(0.6)
    for bad in ([0.5, 2.0], [], [0.5, math.nan]):
        with pytest.raises(ValueError, match=r"outcomes|value"):
            statistics.win_rate(bad)
    with pytest.raises(ValueError, match="2 clusters"):
        statistics.win_rate([0, 1, 1], clusters=["a", "b"])


def test_the_drawn_interval_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    clusters = rng.integers(0, 60, size=300)
    outcomes = np.clip(rng.choice([0, 0.5, 1], size=300) * (clusters % 3), 0, 1)
    members = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    plain = []
    for _ in range(3000):
        drawn = rng.integers(0, len(members), size=len(members))
        plain.append(outcomes[np.concatenate([members[i] for i in drawn])].mean())
    rate, low, high, n = statistics.win_rate(outcomes, clusters, draws=3000)
    assert (rate, n) == (outcomes.mean(), 300)
    np.testing.assert_allclose((low, high), np.quantile(plain, [0.025, 0.975]), atol=0.01)


def test_samples_of_one_prompt_are_not_independent():
    outcomes, clusters = np.repeat([0.0, 1.0] * 50, 10), np.repeat(np.arange(100), 10)
    apart, together = statistics.win_rate(outcomes), statistics.win_rate(outcomes, clusters)
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(10**0.5, rel=0.15)
    assert together.high - together.rate == pytest.approx(1.96 * 0.05, rel=0.1)


def test_confidence_draws_and_seed_have_their_effect():
    values = np.random.default_rng(0).normal(size=200)
    narrow, wide = statistics.mean_interval(values, confidence=0.5), statistics.mean_interval(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    assert statistics.mean_interval(values, seed=1) == statistics.mean_interval(values, seed=1)
    assert statistics.mean_interval(values, seed=1) != statistics.mean_interval(values, seed=2)
    assert statistics.mean_interval(values, draws=1000) != statistics.mean_interval(values, draws=4000)
    with pytest.raises(AssertionError, match="draws"):
        statistics.mean_interval(values, draws=100)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from("abc")), min_size=1), st.randoms())
def test_the_order_of_outcomes_changes_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = (statistics.win_rate(*zip(*some, strict=True), draws=1000) for some in (rows, shuffled))
    assert first == pytest.approx(second)


def test_accuracy_is_of_booleans():
    assert statistics.accuracy_interval([True, False, True, True]).mean == 0.75
    with pytest.raises(ValueError, match="True"):
        statistics.accuracy_interval([0.2, 1.0])


def test_five_thousand_prompts_take_no_time():
    outcomes = np.random.default_rng(0).choice([0, 0.5, 1], size=5000)
    start = time.process_time()
    statistics.win_rate(outcomes, np.arange(5000).astype(str))
    assert time.process_time() - start < 1.0


def test_choice_entropy_by_hand():
    bits = statistics.choice_entropy_bits([[-800.0, -800.0], [-5.0, -math.inf], [-1.0, -1.0 - math.log(3)]])
    np.testing.assert_allclose(bits, [1.0, 0.0, 2 - 0.75 * math.log2(3)], atol=1e-12)


def test_reward_bias_makes_demonstrations_score_zero():
    assert statistics.reward_bias([1.0, 2.0, 6.0]) == -3.0


def test_cohen_kappa_by_hand():
    """Both yes 20, both no 15, 25 and 30 yes in all: 0.7 observed, 0.5 by chance."""
    assert statistics.cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    three = [[4, 1, 0], [0, 3, 0], [1, 0, 1]]  # 0.8 observed; (5 * 5 + 3 * 4 + 2 * 1) / 100 by chance
    assert statistics.cohen_kappa(three) == pytest.approx((0.8 - 0.39) / 0.61)
    many = statistics.cohen_kappa([[[20, 5], [10, 15]], [[7, 0], [0, 0]]])
    assert many[0] == pytest.approx(0.4)
    assert math.isnan(many[1])


def test_fleiss_kappa_by_hand():
    """Three raters, two classes: 1, 1/3, 1, 1 agree; 8 of 12 judgements are of the first class."""
    terms = statistics.fleiss_terms([[3, 0], [2, 1], [0, 3], [3, 0]])
    assert statistics.fleiss_kappa(terms.sum(axis=0)) == pytest.approx((5 / 6 - 5 / 9) / (4 / 9))
    uneven = statistics.fleiss_terms([[1, 1], [3, 1]])  # units with two and with four raters: 0 and 1/2 agree
    assert statistics.fleiss_kappa(uneven.sum(axis=0)) == pytest.approx((1 / 4 - 5 / 9) / (4 / 9))
    assert math.isnan(statistics.fleiss_kappa(statistics.fleiss_terms([[3, 0], [2, 0]]).sum(axis=0)))


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_the_resampled_alpha_is_that_of_the_library(level):
    """Where all units are one cluster every resample is the whole, and the bounds are what it gives by sums."""
    rng = np.random.default_rng(3)
    ratings = rng.choice([1.0, 2.0, 4.0, 7.0, math.nan], p=[0.3, 0.2, 0.2, 0.1, 0.2], size=(5, 40))
    ratings[1:, 5] = math.nan  # a unit with one rating, dropped (T2)
    found = statistics.alpha_interval(ratings, level, ["one"] * 40)
    assert found.mean == statistics.krippendorff_alpha(ratings, level)
    assert found.low == pytest.approx(found.mean, abs=1e-12)
    assert found.high == pytest.approx(found.mean, abs=1e-12)
    free = statistics.alpha_interval(ratings, level)
    assert free.low < found.mean - 0.05 < found.mean + 0.05 < free.high
    assert found.n == free.n == ((~np.isnan(ratings)).sum(axis=0) >= 2).sum() < 40


def test_alpha_without_two_values_has_no_interval():
    found = statistics.alpha_interval([[1, 1, 2], [1, 1, math.nan]], "nominal")
    assert math.isnan(found.mean)
    assert math.isnan(found.low)
    assert found.n == 2


def test_an_interval_of_sums_resamples_clusters():
    """Two clusters: half of the resamples hold both (2 of 4), a quarter each one alone (0 of 2, or 2 of 2)."""
    terms, clusters = [[0, 1], [1, 1], [0, 1], [1, 1]], ["a", "b", "a", "b"]
    seen = []

    def share(sums):
        seen.append(sums)
        return sums[:, 0] / sums[:, 1]

    found = statistics.sums_interval(share, terms, clusters, n=7, draws=4000)
    values, counts = np.unique(share(seen[0]), return_counts=True)
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)
    assert found == (0.5, 0.0, 1.0, 7)


def test_undefined_resamples_are_left_out_of_an_interval():
    assert statistics.percentile_interval(np.array([math.nan, 1.0, 1.0, math.nan])) == (1.0, 1.0)
    low, high = statistics.percentile_interval(np.array([math.nan]))
    assert math.isnan(low)
    assert math.isnan(high)
