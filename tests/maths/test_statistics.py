from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.maths import losses, statistics
from maths import golden


def alpha(ratings, level):
    return statistics.alpha_interval(ratings, level, draws=1000).mean


@golden.cases("statistics", "krippendorff")
def test_golden_alpha(case):
    ratings = np.array(case.inputs["ratings"], dtype=float)
    case.check({level: alpha(ratings, level) for level in ("nominal", "ordinal", "interval")})


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


def test_alpha_is_nan_where_it_is_undefined():
    nan = math.nan
    assert math.isnan(alpha([[3, 3], [3, 3]], "nominal"))
    assert math.isnan(alpha([[1, nan], [nan, 2]], "nominal"))
    assert math.isnan(alpha([[3, 3, 1], [3, 3, nan]], "ordinal"))
    assert alpha([[3, 1, 5], [3, 1, nan]], "ordinal") == pytest.approx(1.0)


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


def test_an_interval_of_many_clusters_is_that_of_a_plain_bootstrap():
    """Where there are many clusters all methods agree."""
    rng = np.random.default_rng(1)
    clusters = rng.integers(0, 60, size=300)
    outcomes = np.clip(rng.choice([0, 0.5, 1], size=300) * (clusters % 3), 0, 1)
    members = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    plain = []
    for _ in range(3000):
        drawn = rng.integers(0, len(members), size=len(members))
        plain.append(outcomes[np.concatenate([members[i] for i in drawn])].mean())
    bounds = statistics.percentile_interval(np.array(plain))
    rate, low, high, n = statistics.win_rate(outcomes, clusters)
    assert (rate, n) == (outcomes.mean(), 300)
    np.testing.assert_allclose((low, high), bounds, atol=0.012)
    _, low, high, _ = statistics.mean_interval(outcomes, clusters)
    np.testing.assert_allclose((low, high), bounds, atol=0.012)


def coverage(truth, sample, runs=1000):
    """Share of the intervals of `runs` samples that hold the truth. None counts as a miss, so it must not happen."""
    found = [sample(np.random.default_rng([7, run])) for run in range(runs)]
    return np.mean([low is not None and low <= truth <= high for _, low, high, _ in found])


@pytest.mark.parametrize(("p", "n"), [(0.5, 10), (0.8, 10), (0.95, 20), (0.05, 20), (0.95, 50), (0.7, 200)])
def test_an_interval_of_a_share_covers_as_it_says(p, n):
    """At 0.95 of 20 the percentile bootstrap covers two thirds."""
    assert coverage(p, lambda rng: statistics.win_rate(rng.binomial(1, p, n))) >= 0.92


def test_the_percentile_bootstrap_is_too_narrow_near_one():
    def sample(rng):
        outcomes = rng.binomial(1, 0.95, 20)
        low, high = statistics.percentile_interval(rng.choice(outcomes, size=(1000, 20)).mean(axis=1))
        return statistics.Interval(outcomes.mean(), low, high, 20)

    assert coverage(0.95, sample) < 0.75


@pytest.mark.parametrize(("p", "clusters"), [(0.5, 10), (0.8, 10), (0.9, 20), (0.95, 20), (0.7, 50)])
def test_an_interval_over_clusters_covers_as_it_says(p, clusters):
    """Clusters of one to four outcomes with a rate of their own. Ties change nothing."""

    def sample(rng):
        sizes = rng.integers(1, 5, size=clusters)
        rates = np.repeat(rng.beta(3 * p, 3 * (1 - p), size=clusters), sizes)
        return statistics.win_rate(rng.binomial(2, rates) / 2, np.repeat(np.arange(clusters), sizes))

    assert coverage(p, sample) >= 0.91


@pytest.mark.parametrize(("users", "steep"), [(40, 1.0), (40, 1.5), (15, 1.0)])
def test_an_interval_over_users_covers_where_few_send_most_prompts(users, steep):
    """The k-th user has a share of k**-steep, and a rate of their own. As if all were alike, 79 % at 1.5."""
    shares = np.arange(1.0, users + 1) ** -steep

    def sample(rng):
        sent = rng.choice(users, size=300, p=shares / shares.sum())
        rates = np.clip(0.6 + 0.15 * rng.standard_normal(users), 0, 1)
        return statistics.win_rate(rng.binomial(1, rates[sent]), sent)

    assert 0.93 <= coverage(0.6, sample) <= 0.985


def test_all_from_one_cluster_is_no_interval():
    """Nine clusters have nothing to count: their shares of the whole are 0."""
    terms = [[30, 50], *([[0, 0]] * 9)]
    assert statistics.ratio_interval(terms, range(10)) == (0.6, None, None, 10)


@pytest.mark.medium
@pytest.mark.parametrize("n", [10, 30])
def test_an_interval_of_a_mean_covers_as_it_says(n):
    """Of a normal and of a skewed mean. BCa gives up some points at ten values, and needs no bounds."""
    least = {10: 0.85, 30: 0.89}[n]
    assert coverage(0.0, lambda rng: statistics.mean_interval(rng.normal(size=n), draws=1000), 200) >= least
    assert coverage(1.0, lambda rng: statistics.mean_interval(rng.exponential(size=n), draws=1000), 200) >= least


def test_wilsons_interval_by_hand():
    """1.96 squared is 3.8415: (0.95 + 0.0960) / 1.1921 and 1.96 / 1.1921 * sqrt(0.002375 + 0.0024)."""
    _, low, high, n = statistics.win_rate([1] * 19 + [0])
    assert (low, high, n) == (pytest.approx(0.7639, abs=1e-4), pytest.approx(0.9911, abs=1e-4), 20)


def test_bca_is_that_of_scipy():
    values = [0.1, 0.3, 0.4, 0.9, 1.2, 1.5, 2.1, 2.8, 4.4, 7.9, 12.3, 1.1]
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0))
    _, low, high, _ = statistics.mean_interval(values, draws=20_000)
    np.testing.assert_allclose((low, high), tuple(theirs.confidence_interval), rtol=0.02)


@pytest.mark.parametrize("interval", [statistics.win_rate, statistics.mean_interval])
def test_no_interval_says_more_than_anybody_knows(interval):
    nine, alike = [0, 1, 1] * 3, [0.5] * 40
    assert interval(nine)[1:] == (None, None, 9)  # too few
    assert interval([*nine, 1], ["one"] * 10)[1:] == (None, None, 10)  # one cluster
    assert interval(np.repeat(nine, 5), np.repeat(np.arange(9), 5))[1:] == (None, None, 45)
    assert interval(alike)[1:] == (None, None, 40)  # all ties
    assert interval([*nine, 1]).low is not None


def test_outcomes_that_are_all_alike_have_a_width():
    """20 of 20: Wilson's 0.839. 10 clusters of five count as ten observations, with Student's quantile."""
    assert statistics.win_rate([1] * 20)[:3] == (1.0, pytest.approx(20 / (20 + 3.8415), abs=1e-4), 1.0)
    together = statistics.win_rate([0] * 50, np.repeat(np.arange(10), 5))
    square = 2.2622**2  # of nine degrees of freedom
    assert together[:3] == (0.0, 0.0, pytest.approx(square / (10 + square), abs=1e-3))
    assert statistics.mean_interval([1] * 20)[1:] == (None, None, 20)


def test_a_perfect_agreement_has_no_interval():
    found = statistics.alpha_interval(np.repeat([[1.0, 2.0]], 3, axis=0).repeat(8, axis=1), "nominal")
    assert found == (1.0, None, None, 16)


def test_student_has_the_quantiles_of_the_tables():
    assert [statistics.student(n) for n in (9, 19, 30, 10**6)] == pytest.approx(
        [2.26216, 2.09302, 2.04227, 1.95996], abs=3e-4
    )


def test_repeats_are_a_mean_and_its_standard_error():
    assert statistics.repeats([0.6, 0.7, 0.8]) == (pytest.approx(0.7), pytest.approx(0.1 / 3**0.5), 3)
    assert statistics.repeats([0.6]) == (0.6, None, 1)


def test_samples_of_one_prompt_are_not_independent():
    outcomes, clusters = np.repeat([0.0, 1.0] * 50, 10), np.repeat(np.arange(100), 10)
    apart, together = statistics.win_rate(outcomes), statistics.win_rate(outcomes, clusters)
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(10**0.5, rel=0.15)
    assert together.high - together.rate == pytest.approx(1.96 * 0.05, rel=0.1)


def test_draws_and_seed_have_their_effect():
    values = np.random.default_rng(0).normal(size=200)
    narrow, wide = statistics.percentile_interval(values, 0.5), statistics.percentile_interval(values, 0.99)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert statistics.mean_interval(values, seed=1) == statistics.mean_interval(values, seed=1)
    assert statistics.mean_interval(values, seed=1) != statistics.mean_interval(values, seed=2)
    assert statistics.mean_interval(values, draws=1000) != statistics.mean_interval(values, draws=4000)
    with pytest.raises(AssertionError, match="draws"):
        statistics.mean_interval(values, draws=100)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from("abc")), min_size=1), st.randoms())
def test_the_order_of_outcomes_changes_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = (statistics.win_rate(*zip(*some, strict=True)) for some in (rows, shuffled))
    assert [x or 0.0 for x in first] == pytest.approx([x or 0.0 for x in second])


def test_five_thousand_prompts_take_no_time():
    outcomes = np.random.default_rng(0).choice([0, 0.5, 1], size=5000)
    start = time.process_time()
    statistics.win_rate(outcomes, np.arange(5000).astype(str))
    assert time.process_time() - start < 1.0


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
def test_the_alpha_of_sums_is_that_of_the_whole(level):
    rng = np.random.default_rng(3)
    ratings = rng.choice([1.0, 2.0, 4.0, 7.0, math.nan], p=[0.3, 0.2, 0.2, 0.1, 0.2], size=(5, 40))
    ratings[1:, 5] = math.nan  # a unit with one rating, dropped (T2)
    found = statistics.alpha_interval(ratings, level, ["one"] * 40)
    assert found.mean == pytest.approx(alpha(ratings, level), abs=1e-12)
    assert (found.low, found.high) == (None, None)
    free = statistics.alpha_interval(ratings, level)
    assert free.low < found.mean - 0.04 < found.mean + 0.04 < free.high
    assert found.n == free.n == ((~np.isnan(ratings)).sum(axis=0) >= 2).sum() < 40


def test_alpha_without_two_values_has_no_interval():
    found = statistics.alpha_interval([[1, 1, 2], [1, 1, math.nan]], "nominal")
    assert math.isnan(found.mean)
    assert found.low is None
    assert found.n == 2


def test_an_interval_of_sums_resamples_clusters():
    """Ten clusters of two, half of them right: a resample holds k of ten right ones, binomially."""
    terms = [[right, 1] for right in (0, 1) for _ in range(10)]
    clusters = [name for name in range(10) for _ in range(2)]
    seen = []

    def share(sums):
        seen.append(sums[:, 0] / sums[:, 1])
        return seen[-1]

    found = statistics.sums_interval(share, terms, clusters, n=7, draws=4000)
    resampled = max(seen, key=len)
    values, counts = np.unique(resampled, return_counts=True)
    assert set(values.round(6)) <= {k / 10 for k in range(11)}
    np.testing.assert_allclose(counts[values.round(6) == 0.5] / 4000, 252 / 1024, atol=0.03)
    assert (found.mean, found.n) == (0.5, 7)
    assert 0.1 <= found.low < 0.5 < found.high <= 0.9


def test_undefined_resamples_are_left_out_of_an_interval():
    assert statistics.percentile_interval(np.array([math.nan, 1.0, 1.0, math.nan])) == (1.0, 1.0)
    low, high = statistics.percentile_interval(np.array([math.nan]))
    assert math.isnan(low)
    assert math.isnan(high)


def test_equal_scores_are_half_right_everywhere():
    """One pair of equal scores: as a metric of the losses, over rankings, and as a win rate."""
    margins = torch.tensor([2.0, 0.0, -1.0])
    assert statistics.wins(margins).tolist() == statistics.wins(margins.numpy()).tolist() == [1.0, 0.5, 0.0]
    pairs = statistics.ordered_pairs([[3.0, 1.0, 1.0]])
    assert sorted(pairs) == [(0, 0, 1), (0, 0, 2)]
    scores, ranks = [[4.0, 4.0, 1.0]], [[0, 1, 1]]
    _, _, metrics = losses.ranking_loss(torch.tensor(scores), torch.tensor(ranks), torch.ones(1, 3, dtype=torch.bool))
    assert golden.mean(metrics["accuracy"]) == statistics.pair_accuracy(scores, pairs).rate == 0.75
    zero_B = torch.zeros(1)
    assert golden.mean(losses.dpo_loss(zero_B, zero_B, zero_B, zero_B, 0.1)[2]["accuracy"]) == 0.5
