"""Distances, AUROC and rank correlation by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heedful.maths.separation import auroc, rank_correlation, ranks, shrunk_gaussian


def test_the_shrunk_covariance_by_hand() -> None:
    """S = diag(1/2, 2) and m = 5/4. |S - m I|^2 = 9/8; the rows' products are 17/4 from S in the mean square, by 4."""
    rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]
    found = shrunk_gaussian(rows)
    s = (17 / 16) / (9 / 8)
    assert found.shrinkage == pytest.approx(s)
    variances = [(1 - s) * 0.5 + s * 1.25, (1 - s) * 2 + s * 1.25]
    assert found.distances([[3.0, 4.0]]) == pytest.approx([math.sqrt(9 / variances[0] + 16 / variances[1])])


def test_distances_start_at_the_mean_and_many_rows_need_no_shrinkage() -> None:
    rng = np.random.default_rng(0)
    found = shrunk_gaussian(rng.normal(size=(20_000, 3)) * [1.0, 2.0, 0.5] + 7)
    assert found.shrinkage < 0.01
    assert found.distances([[7.0, 7.0, 7.0]]) == pytest.approx([0.0], abs=0.05)
    assert found.distances([[7.0, 9.0, 7.0], [7.0, 7.0, 8.0]]) == pytest.approx([1.0, 2.0], rel=0.05)


def test_fewer_rows_than_columns_still_have_a_distance() -> None:
    found = shrunk_gaussian(np.eye(3, 8))
    assert np.isfinite(found.distances(np.ones((1, 8)))).all()
    with pytest.raises(ValueError, match="rows that differ"):
        shrunk_gaussian(np.ones((4, 2)))


def test_auroc_by_hand() -> None:
    assert auroc([1, 2, 3], [2, 4]).mean == 0.75
    assert auroc([1, 1], [1, 1]).mean == 0.5
    assert auroc([3], [1]).mean == 0.0
    with pytest.raises(ValueError, match="one side"):
        auroc([], [1])


def test_the_interval_of_the_auroc() -> None:
    """Two normals one deviation apart: AUROC = Phi(1 / sqrt 2) = 0.760. Copies of a row add nothing."""
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=300), rng.normal(1, size=300)
    found = auroc(inside, outside)
    assert found.low < 0.760 < found.high
    assert 0.05 < found.high - found.low < 0.1
    numbers = np.arange(300).repeat(3)
    copied = auroc(inside.repeat(3), outside.repeat(3), (numbers, numbers))
    assert copied[:3] == pytest.approx(found[:3])
    assert auroc(inside[:9], outside).low is None


def test_rank_correlation_by_hand() -> None:
    """Ranks 1 to 4 against 1, 2, 4, 3: 1 - 6 * 2 / (4 * 15). Equal values share their mean rank."""
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]).mean == pytest.approx(0.8)
    assert ranks([5, 1, 5, 9]).tolist() == [2.5, 1, 2.5, 4]
    assert math.isnan(rank_correlation([1, 2, 3], [7, 7, 7]).mean)
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    found = rank_correlation(x, x + rng.normal(size=200))
    assert 0.4 < found.low < found.mean < found.high < 0.85
