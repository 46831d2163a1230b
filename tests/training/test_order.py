"""Which rows a step sees."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from heedful.training import order


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
