from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.maths import best_of_n
from maths import golden


@golden.cases("best_of_n", "analytic_kl")
def test_golden_kl(case):
    kls = [best_of_n.kl(n) for n in case.inputs["n"]]
    case.check({"kl": kls, "d": np.sqrt(kls)})


@golden.cases("best_of_n", "discrete_exact")
def test_golden_exact_kl(case):
    base_V, n = case.inputs["base_probs_worst_to_best"], case.inputs["n"]
    results = {
        "bon_probs": best_of_n.discrete_probs(base_V, n),
        "kl": best_of_n.discrete_kl(base_V, n),
        "analytic_upper_bound": best_of_n.kl(n),
    }
    case.check(results)
    assert results["kl"] <= results["analytic_upper_bound"]


@golden.cases("best_of_n", "overoptimisation_forms")
def test_golden_over_optimisation(case):
    bon, rl = ([case.inputs[f"{name}_{kind}"] for name in ("alpha", "beta")] for kind in ("bon", "rl"))
    d = case.inputs["d"]
    (d_bon, peak_bon), (d_rl, peak_rl) = best_of_n.peak_best_of_n(*bon), best_of_n.peak_rl(*rl)
    case.check(
        {
            "R_bon": best_of_n.gold_best_of_n(d, *bon),
            "R_rl": best_of_n.gold_rl(d, *rl),
            "d_peak_bon": d_bon,
            "R_peak_bon": peak_bon,
            "d_peak_rl": d_rl,
            "R_peak_rl": peak_rl,
        }
    )


@golden.cases("best_of_n", "unbiased_estimator")
def test_golden_estimator(case):
    proxy_N, gold_N = case.inputs["proxy_scores"], case.inputs["gold_scores"]
    case.check(
        {
            "gold": [best_of_n.expected_best(proxy_N, gold_N, n) for n in case.inputs["n"]],
            "proxy": [best_of_n.expected_best(proxy_N, proxy_N, n) for n in case.inputs["n"]],
        }
    )


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=6), st.integers(1, 6))
def test_estimator_is_the_mean_over_subsets_with_ties_broken_at_random(samples, n):
    n = min(n, len(samples))
    bests = []
    for subset in itertools.combinations(samples, n):
        top = max(proxy for proxy, _ in subset)
        bests.append(np.mean([gold for proxy, gold in subset if proxy == top]))
    proxy_N, gold_N = zip(*samples, strict=True)
    assert best_of_n.expected_best(proxy_N, gold_N, n) == pytest.approx(np.mean(bests), abs=1e-9)


def test_estimator_ends():
    proxy_N, gold_N = np.arange(3000.0), np.sin(np.arange(3000.0))
    assert best_of_n.expected_best(proxy_N, gold_N, 1) == pytest.approx(gold_N.mean())
    assert best_of_n.expected_best(proxy_N, gold_N, 3000) == pytest.approx(gold_N[-1])
    assert best_of_n.expected_best(proxy_N, proxy_N, 2) == pytest.approx(2 * 3001 / 3 - 1)
    for n in (0, 4):
        with pytest.raises(ValueError, match="samples"):
            best_of_n.expected_best([1, 2, 3], [1, 2, 3], n)


def test_gold_forms_start_at_zero_and_peak_where_they_say():
    for gold, peak in (
        (best_of_n.gold_best_of_n, best_of_n.peak_best_of_n),
        (best_of_n.gold_rl, best_of_n.peak_rl),
    ):
        d, height = peak(1.0, 0.4)
        assert gold(0.0, 1.0, 0.4) == 0.0
        assert gold(d, 1.0, 0.4) == pytest.approx(height)
        assert (gold(d * np.linspace(0.01, 2, 100), 1.0, 0.4) <= height + 1e-12).all()


def test_kl_of_impossible_outcomes():
    assert best_of_n.discrete_kl([0.0, 0.5, 0.5, 0.0], 2) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
