from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heedful.rollout.streams import uniforms
from heedful.rollout.types import Stream

KEYS = st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40))


@given(KEYS, KEYS)
def test_different_streams_share_no_draw(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    shared = np.intersect1d(uniforms(one, 50), uniforms(other, 50))
    assert len(shared) == (50 if one == other else 0)


def test_neighbouring_streams_do_not_overlap() -> None:
    names = [(seed, iteration, row) for seed in (0, 1, 2**32) for iteration in range(4) for row in range(4)]
    draws = [uniforms(Stream(*name), 500) for name in names]
    assert len(np.unique(np.concatenate(draws))) == 48 * 500


def test_a_longer_read_begins_with_the_shorter() -> None:
    stream = Stream(1, 2, 3)
    draws = uniforms(stream, 1000)
    assert draws.dtype == np.float64
    assert np.array_equal(draws[:7], uniforms(stream, 7))
    assert ((draws >= 0) & (draws < 1)).all()
    assert abs(draws.mean() - 0.5) < 0.03


def test_the_streams_of_old_runs_stay_what_they_were() -> None:
    """A changed generator would silently change every run of a seed."""
    assert uniforms(Stream(7, 3, 11), 2).tolist() == [0.4234466355863712, 0.8049934101184748]


def test_the_largest_seeds_are_taken_whole() -> None:
    """A key as one number is what a seed of 64 bits must give."""
    for seed in (-1, -2, 2**63 + 1):
        philox = np.random.Philox(key=seed % 2**64, counter=[0, 0, 11, 3])
        assert np.array_equal(uniforms(Stream(seed, 3, 11), 5), np.random.Generator(philox).random(5))
    assert not np.array_equal(uniforms(Stream(-1, 3, 11), 5), uniforms(Stream(-2, 3, 11), 5))
