"""Held-out accuracy by hand: overall, of length, by labeler and group, by difference of length."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from heedful.data.records import Comparison
from heedful.learning import reward_quality
from heedful.learning.examples import Ranked

NUMBERS = itertools.count()


def ranked(lengths: list[int], ranking: list[list[int]], prompt: str | None = None, **who: Any) -> Ranked:
    prompt = prompt or f"p{next(NUMBERS)}"
    record = Comparison(prompt=prompt, completions=["x" * n for n in lengths], ranking=ranking, **who)
    return Ranked([9], [[5 + k] for k in range(len(lengths))], record.ranks(), lengths, record)


ROWS = [
    ranked([10, 11, 30], [[0], [1], [2]], labeler="ann", group="in"),  # pairs 0>1, 0>2, 1>2
    ranked([40, 10], [[0], [1]], labeler="bo", group="in"),  # pair 0>1
    ranked([10, 10, 10], [[0, 1], [2]], labeler="bo", group="out"),  # pairs 0>2, 1>2
]
SCORES = [[3.0, 1.0, 2.0], [0.0, 1.0], [5.0, 5.0, 5.0]]  # right, right, wrong; wrong; two even


def test_overall_and_longer_wins() -> None:
    quality = reward_quality.measure(ROWS, SCORES)
    assert quality["accuracy"]["rate"] == pytest.approx((1 + 1 + 0 + 0 + 0.5 + 0.5) / 6)
    assert quality["accuracy"]["n"] == 6
    assert quality["longer_wins"]["rate"] == pytest.approx((0 + 0 + 0 + 1 + 0.5 + 0.5) / 6)
    assert (quality["accuracy"]["low"], quality["accuracy"]["high"]) == (None, None)  # three prompts
    assert reward_quality.accuracy(ROWS, SCORES).rate == quality["accuracy"]["rate"]


def test_by_labeler_group_and_length() -> None:
    quality = reward_quality.measure(ROWS, SCORES)
    rates = {name: (part["rate"], part["n"]) for name, part in quality["by_labeler"].items()}
    assert rates == {"ann": (pytest.approx(2 / 3), 3), "bo": (pytest.approx(1 / 3), 3)}
    rates = {name: (part["rate"], part["n"]) for name, part in quality["by_group"].items()}
    assert rates == {"in": (pytest.approx(2 / 4), 4), "out": (0.5, 2)}
    rates = {name: (part["rate"], part["n"]) for name, part in quality["by_length_difference"].items()}
    assert rates == {
        "under 25 %": (pytest.approx((1 + 0.5 + 0.5) / 3), 3),  # 10 to 11, and the two equal ones
        "over 100 %": (pytest.approx((1 + 0 + 0) / 3), 3),  # 10 to 30, 11 to 30, 40 to 10
    }


def test_rows_without_names_have_no_table() -> None:
    quality = reward_quality.measure([ranked([1, 2], [[0], [1]])], [[1.0, 0.0]])
    assert quality["by_labeler"] == quality["by_group"] == {}


def test_the_interval_resamples_prompts_not_pairs() -> None:
    """One prompt with many pairs tells no more about other prompts than one with two."""
    many = [ranked([1] * 9, [[k] for k in range(9)])]
    quality = reward_quality.accuracy(many, [[float(k) for k in range(9)]])
    assert (quality.rate, quality.low, quality.high) == (0.0, None, None)
    apart = [ranked([1, 1], [[0], [1]]) for _ in range(20)]
    mixed = reward_quality.accuracy(apart, [[1.0, 0.0], [0.0, 1.0]] * 10)
    assert mixed.low < 0.35 < 0.65 < mixed.high
    again = [ranked([1, 1], [[0], [1]], prompt=f"q{i}", labeler=f"l{j}") for i in range(20) for j in range(10)]
    tenfold = reward_quality.accuracy(again, [[1.0, 0.0]] * 100 + [[0.0, 1.0]] * 100)
    assert tenfold.n == 200
    # ten people on a prompt are one prompt, but for Student's quantile
    assert (tenfold.low, tenfold.high) == pytest.approx((mixed.low, mixed.high), abs=0.02)


@pytest.mark.parametrize(("ours", "longer", "warned"), [(0.7, 0.6, False), (0.6, 0.6, True), (0.4, 0.55, True)])
def test_no_better_than_longer_wins_is_said_with_the_figures(ours: float, longer: float, warned: bool) -> None:
    quality = {"accuracy": {"rate": ours, "n": 80}, "longer_wins": {"rate": longer, "n": 80}}
    messages = reward_quality.warnings(quality)
    assert bool(messages) is warned
    if warned:
        assert f"right on {ours:.1%} of 80 held-out pairs, no better than 'longer wins' ({longer:.1%})" in messages[0]
