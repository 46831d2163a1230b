"""Calibration by hand, and on margins that are calibrated by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.maths.calibration import expected_error, fitted_temperature, temperature


def test_expected_error_by_hand() -> None:
    """Sure to 0.75, right in 1 of 2; sure to 0.9, right in 2 of 2; a margin of 0 predicts nothing."""
    low, high = math.log(3), math.log(9)
    found = expected_error([low, -low, high, high, 0.0], bins=2)
    assert found.mean == pytest.approx((2 * abs(0.5 - 0.75) + 2 * abs(1 - 0.9)) / 4)
    assert (found.n, found.low) == (4, None)
    assert math.isnan(expected_error([0.0]).mean)


def test_the_interval_of_the_error_counts_clusters() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(1, 2, size=400)
    alone = expected_error(margins)
    together = expected_error(margins.repeat(4), np.arange(400).repeat(4))
    apart = expected_error(margins.repeat(4))
    assert alone.low < alone.mean < alone.high
    assert together.high - together.low > 1.6 * (apart.high - apart.low)


def test_the_temperature_by_hand() -> None:
    """Margins of m, right in three of four: sigmoid(m / T) = 3/4, so T = m / log 3."""
    assert fitted_temperature([2.0, 2.0, 2.0, -2.0]) == pytest.approx(2 / math.log(3))
    assert fitted_temperature([200.0, 200.0, 200.0, -200.0]) == pytest.approx(200 / math.log(3))


@pytest.mark.parametrize("margins", [[], [1.0, 2.0], [1.0, -1.0], [-1.0, 0.5]])
def test_where_no_temperature_mends_the_scores(margins: list[float]) -> None:
    """No pair, always right, right by chance, and less often."""
    assert fitted_temperature(margins) is None


@pytest.mark.medium
def test_the_temperature_of_the_other_half() -> None:
    """Calibrated margins, scaled by 3: half of the pairs tell the 3, and the other half is mended by it."""
    rng = np.random.default_rng(1)
    true = rng.normal(0, 1.5, size=6000)
    margins = 3 * np.where(rng.random(6000) < 1 / (1 + np.exp(-np.abs(true))), np.abs(true), -np.abs(true))
    fitting = np.arange(6000) % 2 == 0
    found = temperature(margins, None, fitting)
    assert found.value == pytest.approx(3, rel=0.1)
    assert found.error_after is not None
    assert found.loss_after is not None
    assert found.error_before.mean > 0.1 > 0.03 > found.error_after.mean
    assert found.loss_after.mean < found.loss_before.mean
    assert found.error_before.n == 3000
    broken = temperature(np.where(fitting, 1.0, margins), None, fitting)
    assert broken.value is broken.error_after is None
