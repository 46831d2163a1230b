"""Accuracy over pairs and calibration, by hand and on scores that are right by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.data.records import Comparison
from heedful.evaluation.quality import calibration, preferences
from heedful.maths.statistics import ordered_pairs, pair_accuracy


def test_accuracy_over_the_pairs_that_differ_in_truth() -> None:
    """Prompt 1: of three pairs two right, one tied in score. Prompt 2: one pair, wrong. Ties in truth are left out."""
    found = pair_accuracy([[3.0, 1.0, 1.0], [0.0, 5.0]], ordered_pairs([[9.0, 5.0, 4.0], [1.0, 0.0]]))
    assert found.rate == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert found.n == 4
    assert (found.low, found.high) == (None, None)  # two prompts
    assert pair_accuracy([[1.0, 2.0, 3.0]], ordered_pairs([[0.0, 0.0, 7.0]])).n == 2


def test_without_a_pair_there_is_no_accuracy() -> None:
    with pytest.raises(ValueError, match="no two completions"):
        pair_accuracy([[1.0, 2.0]], ordered_pairs([[3.0, 3.0]]))


def test_rankings_as_numbers() -> None:
    row = Comparison(prompt="p", completions=["x", "y", "z"], ranking=[[1], [0, 2]])
    assert preferences([row]) == [[-1.0, 0.0, -1.0]]
    assert pair_accuracy([[0.0, 1.0, 0.5]], ordered_pairs(preferences([row]))).rate == 1.0


@pytest.mark.medium
def test_calibration_of_scores_that_are_calibrated() -> None:
    """Utilities with Gumbel noise on top: the chance that one pair comes out right is sigmoid(difference) exactly."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1.5, size=(4000, 2))
    truth = scores + rng.gumbel(size=scores.shape)
    bins = calibration(scores.tolist(), truth.tolist(), bins=5)
    assert [item.observed.n for item in bins] == [800] * 5
    assert all(item.observed.low - 0.01 < item.predicted < item.observed.high + 0.01 for item in bins)
    assert bins[0].predicted < 0.6 < 0.9 < bins[-1].predicted
    twice = calibration((2 * scores).tolist(), truth.tolist(), bins=5)
    assert twice[2].predicted > twice[2].observed.high  # too sure of itself


def test_calibration_by_hand() -> None:
    """Differences of log 3 (predicted 0.75), two right and one wrong; equal scores predict nothing and are left out."""
    gap = math.log(3)
    scores, truth = [[gap, 0.0], [gap, 0.0], [gap, 0.0], [1.0, 1.0]], [[1.0, 0.0], [5.0, 4.0], [0.0, 2.0], [1.0, 0.0]]
    (item,) = calibration(scores, truth, bins=1)
    assert item.predicted == pytest.approx(0.75)
    assert item.observed.mean == pytest.approx(2 / 3)
    assert item.observed.n == 3
