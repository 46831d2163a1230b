"""Which rows a step sees."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.training import order
from heedful.training.order import ByLength


def test_endless_order_is_one_permutation_after_another() -> None:
    rows, batch = 7, 3
    seen = [row for step in range(7) for row in order.endless(5, step, batch, rows)]
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
    assert seen[:7] != seen[7:14]


def test_a_batch_larger_than_the_data_goes_round() -> None:
    assert Counter(order.endless(0, 0, 10, 3)).most_common()[0][1] == 4
    assert Counter(order.endless(0, 0, 9, 3)) == {0: 3, 1: 3, 2: 3}


def test_epochs_end_with_a_shorter_batch() -> None:
    assert order.steps_per_epoch(7, 3) == 3
    first = [order.epochs(5, step, 3, 7) for step in range(3)]
    assert [len(rows) for rows in first] == [3, 3, 1]
    assert sorted(chain(*first)) == list(range(7))
    second = [order.epochs(5, step, 3, 7) for step in range(3, 6)]
    assert sorted(chain(*second)) == list(range(7))
    assert first != second


def test_the_order_follows_from_seed_stream_and_step_alone() -> None:
    assert order.epochs(1, 4, 5, 50) == order.epochs(1, 4, 5, 50)
    orders = [order.endless(seed, 0, 50, 50, stream) for seed, stream in ((0, 0), (1, 0), (0, 1))]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert [sorted(rows) for rows in orders] == [list(range(50))] * 3


def by_length(lengths: list[int], tokens: int, steps: int, seed: int = 0) -> list[list[int]]:
    batches = ByLength(seed, lengths, tokens)
    return [sorted(batches(step)) for step in range(steps)]


@pytest.mark.parametrize(
    ("lengths", "tokens", "epoch"),
    [
        (
            [3, 5, 2, 5, 9, 1],
            10,
            [[0, 2, 5], [1, 3], [4]],
        ),  # 3 rows of 3 with padding; 2 of 5; a fourth of 5 is too much
        ([3, 5, 2, 5, 9, 1], 9, [[0, 2, 5], [1], [3], [4]]),
        ([4, 4, 4, 4, 4], 8, [[0, 1], [2, 3], [4]]),
        ([12, 2], 10, [[0], [1]]),  # longer than a batch
        ([1, 1, 1], 1, [[0], [1], [2]]),
        ([2, 7], 100, [[0, 1]]),
    ],
)
def test_rows_of_like_length_share_a_batch(lengths: list[int], tokens: int, epoch: list[list[int]]) -> None:
    found = by_length(lengths, tokens, 2 * len(epoch))
    expected = sorted([lengths[i] for i in rows] for rows in epoch)
    for part in (found[: len(epoch)], found[len(epoch) :]):
        assert sorted([lengths[i] for i in rows] for rows in part) == expected
        assert sorted(chain(*part)) == list(range(len(lengths)))


def test_the_tokens_that_were_seen() -> None:
    """An epoch is 9 in one batch and 2 + 2 in another, in either order; padding does not count."""
    batches = ByLength(0, [2, 9, 2], 9)
    assert [batches.seen(steps) for steps in (0, 2, 4)] == [0, 13, 26]
    first = batches.seen(1)
    assert first in (4, 9)
    assert [batches.steps(tokens) for tokens in (1, first, first + 1, 13, 14, 26)] == [1, 1, 2, 2, 3, 4]
    assert ByLength(0, [3, 5, 4], 15).seen(1) == 12


@pytest.mark.medium
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 120), st.integers(0, 3))
def test_every_row_once_an_epoch_within_the_budget(lengths: list[int], tokens: int, seed: int) -> None:
    batches, seen, step = ByLength(seed, lengths, tokens), [], 0
    while len(seen) < 2 * len(lengths):
        rows = batches(step)
        assert len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= tokens
        seen += rows
        step += 1
        assert batches.seen(step) == sum(lengths[i] for i in seen)
    for epoch in (seen[: len(lengths)], seen[len(lengths) :]):
        assert sorted(epoch) == list(range(len(lengths)))


def test_batches_by_length_follow_from_seed_and_step_alone() -> None:
    lengths = [1 + 7 * i % 50 for i in range(2 * order.POOL + 100)]
    forward, backward = ByLength(3, lengths, 200), ByLength(3, lengths, 200)
    steps = forward.steps(2 * sum(lengths))
    assert backward(steps - 1) == forward(steps - 1)
    assert [backward(step) for step in reversed(range(steps))] == [forward(step) for step in range(steps)][::-1]
    first, second = [forward(step) for step in range(steps // 2)], [forward(step) for step in range(steps // 2, steps)]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(len(lengths)))
    assert sorted(first) != sorted(second)  # other rows together, in the next epoch
    assert by_length(lengths, 200, 5, seed=3) != by_length(lengths, 200, 5, seed=4)
    means = [sum(lengths[i] for i in rows) / len(rows) for rows in first]
    assert means != sorted(means)  # short and long ones mixed


def test_little_is_padding() -> None:
    lengths = [1 + 7 * i % 50 for i in range(order.POOL)]
    batches = ByLength(0, lengths, 200)
    padded = [len(rows) * max(lengths[i] for i in rows) for rows in map(batches, range(batches.steps(sum(lengths))))]
    assert sum(padded) < 1.1 * sum(lengths)
