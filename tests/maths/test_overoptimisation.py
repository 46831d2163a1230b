"""Over-optimisation against curves made by hand, and best of n against all subsets."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest

from heedful.maths.kl import best_of_n_kl
from heedful.maths.overoptimisation import best_of_n_means, best_of_n_weights, fit, peak_shift

D = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]


def noisy(curve: list[float], *, prompts: int = 200, noise: float = 1.0) -> np.ndarray:
    """Gains of prompts whose mean is nearly the curve."""
    rng = np.random.default_rng(3)
    return np.array(curve) + rng.normal(0, noise, (prompts, len(curve))) * (np.array(D) > 0)


def test_best_of_n_has_its_peak_at_alpha_over_two_beta() -> None:
    found = fit(D, np.tile([d * (2.0 - 0.5 * d) for d in D], (3, 1)), "best_of_n")
    assert found.alpha.mean == pytest.approx(2.0)
    assert found.beta.mean == pytest.approx(0.5)
    assert found.peak is not None
    assert found.peak == (pytest.approx(2.0), None, None, pytest.approx(2.0))


def test_rl_has_its_peak_at_e_to_alpha_over_beta_less_one() -> None:
    curve = [d * (1.0 - 0.5 * math.log(d)) if d else 0.0 for d in D]
    found = fit(D, np.tile(curve, (3, 1)), "rl")
    assert (found.alpha.mean, found.beta.mean) == (pytest.approx(1.0), pytest.approx(0.5))
    assert found.peak == (pytest.approx(math.e), None, None, pytest.approx(0.5 * math.e))
    assert found.gain(1.0) == pytest.approx(1.0)
    later = fit(D[1:], np.tile([value - curve[1] for value in curve[1:]], (3, 1)), "rl", start=D[1])
    assert (later.alpha.mean, later.beta.mean) == (pytest.approx(1.0), pytest.approx(0.5))  # gains over a later start


def test_peaks_of_the_same_prompts_are_compared_as_pairs() -> None:
    """What both curves share falls out: the shift of 0.5 is clear where the peaks' own intervals overlap."""
    one, two = ([d * (a - 0.5 * d) for d in D] for a in (2.0, 2.5))
    shared = noisy([0.0] * len(D), prompts=100, noise=6.0)
    first, second = (fit(D, shared + np.array(curve), "best_of_n").peak for curve in (one, two))
    assert first is not None
    assert second is not None
    assert second.low is not None
    assert first.high is not None
    assert second.low < first.high
    found = peak_shift(D, shared + np.array(one), shared + np.array(two))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.mean < found.high
    assert found.mean == pytest.approx(second.distance - first.distance)
    assert peak_shift(D, [one], [[-x for x in D]]) is None


@pytest.mark.medium
@pytest.mark.parametrize("form", ["best_of_n", "rl"])
def test_intervals_hold_the_truth_and_shrink_with_more_prompts(form: str) -> None:
    curve = [d * (2.0 - 0.8 * (d if form == "best_of_n" else math.log(d))) if d else 0.0 for d in D]
    truth = 1.25 if form == "best_of_n" else math.exp(1.5)
    widths = []
    for prompts in (100, 1600):
        found = fit([*D[:-1], 5.0], noisy([*curve[:-1], 5 * (2 - 0.8 * (5 if form == "best_of_n" else math.log(5)))],
                                          prompts=prompts), form)  # type: ignore[arg-type]  # fmt: skip
        assert found.peak is not None
        assert found.beta.low is not None
        assert found.beta.high is not None
        assert found.beta.low < 0.8 < found.beta.high
        assert found.peak.low is not None
        assert found.peak.low < truth < (found.peak.high or math.inf)
        widths.append(found.beta.high - found.beta.low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (list(D), "no peak in range"),  # straight
        ([d * (2.0 + 0.1 * d) for d in D], "no peak in range"),  # bends up
        ([d * (2.0 - 0.2 * d) for d in D], "no peak in range"),  # bends, but the peak at 5 is beyond 4
        ([-d for d in D], "falls from the start"),
    ],
)
def test_where_nothing_bends_in_range_there_is_no_peak(curve: list[float], words: str) -> None:
    for gains in (np.tile(curve, (3, 1)), noisy(curve, noise=0.3)):
        found = fit(D, gains, "best_of_n")
        assert found.peak is None
        assert found.words() == words


@pytest.mark.medium
def test_a_bend_within_its_interval_is_no_peak() -> None:
    curve = [d * (0.9 - 0.2 * d) for d in D]
    assert fit(D, noisy(curve, prompts=20, noise=4.0), "best_of_n").peak is None
    clear = fit(D, noisy(curve, prompts=2000, noise=1.0), "best_of_n").peak
    assert clear is not None
    assert clear.low is not None
    assert clear.high is not None
    assert clear.low < 2.25 < clear.high


def test_prompts_of_one_user_count_as_one() -> None:
    gains = np.repeat(noisy([d * (2.0 - 0.5 * d) for d in D], prompts=12), 20, axis=0)
    alone, together = fit(D, gains, "best_of_n"), fit(D, gains, "best_of_n", [i // 20 for i in range(240)])
    assert alone.alpha.mean == pytest.approx(together.alpha.mean)
    width = [one.alpha.high - one.alpha.low for one in (alone, together)]  # type: ignore[operator]
    assert width[1] > 3 * width[0]
    peaks = [one.peak for one in (alone, together)]
    spread = [one.high - one.low for one in peaks if one and one.high and one.low]
    assert spread[1] > 3 * spread[0]


def test_one_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="two different distances"):
        fit([0.0, 1.0], [[0.0, 1.0]], "rl")


def test_best_of_n_is_the_mean_over_all_subsets() -> None:
    proxy, gold = [0.3, 0.1, 0.3, 0.9, 0.2, 0.3], [1.0, 5.0, 2.0, -1.0, 7.0, 4.0]

    def best(chosen: tuple[int, ...]) -> float:
        top = max(proxy[i] for i in chosen)
        return fmean(gold[i] for i in chosen if proxy[i] == top)  # ties are broken at random

    expected = [fmean(best(one) for one in combinations(range(6), n)) for n in range(1, 7)]
    assert best_of_n_means([proxy], [gold], range(1, 7))[0] == pytest.approx(expected)


def test_weights_of_many_samples_sum_to_one() -> None:
    for n in (1, 2, 64, 1024):
        weights = best_of_n_weights(1024, n)
        assert weights.sum() == pytest.approx(1.0)
        assert (np.diff(weights) >= 0).all()
    assert best_of_n_weights(1024, 1024)[-1] == 1.0
    with pytest.raises(ValueError, match="best of 5 needs 5 samples, not 4"):
        best_of_n_weights(4, 5)


def test_the_proxy_of_best_of_n_grows_as_order_statistics_say() -> None:
    """The best of n uniform numbers is n / (n + 1) on average, and the best of all is the largest."""
    proxy = np.random.default_rng(0).random((400, 64))
    means = best_of_n_means(proxy, proxy, [1, 4, 16, 64]).mean(0)
    assert means == pytest.approx([0.5, 0.8, 16 / 17, 64 / 65], abs=0.005)
    assert best_of_n_kl(64) > best_of_n_kl(16)
