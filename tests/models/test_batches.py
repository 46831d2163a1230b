from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heedful.models import batches

LENGTHS = st.lists(st.integers(1, 50), max_size=30)


def test_a_batch_knows_its_responses() -> None:
    batch = batches.collate([[5, 6], [7]], [[8, 9, 10], [11]], pad_id=1)
    assert batch.input_ids_BS.tolist() == [[5, 6, 8, 9, 10], [7, 11, 1, 1, 1]]
    assert batch.lengths_B.tolist() == [5, 2]
    assert batch.prompt_lengths_B.tolist() == [2, 1]
    assert batch.response_mask_BT.tolist() == [[True, True, True], [True, False, False]]
    assert batch.response_tokens_BT[0].tolist() == [8, 9, 10]
    assert batch.response_tokens_BT[1, 0] == 11
    assert batch.predecessors_BT[0].tolist() == [1, 2, 3]
    assert batch.predecessors_BT[1, 0] == 0


def test_padded_positions_index_inside_the_row() -> None:
    batch = batches.collate([[5], [5, 6, 7, 8]], [[9, 9, 9], [9]], pad_id=1)
    assert int(batch.predecessors_BT.max()) < batch.input_ids_BS.shape[1]
    assert batch.response_tokens_BT.shape == (2, 3)


def test_an_empty_response_is_no_column() -> None:
    batch = batches.collate([[5], [5, 6]], [[], []], pad_id=1)
    assert batch.response_mask_BT.shape == (2, 0)


@given(LENGTHS, st.integers(1, 120))
def test_micro_batches_keep_the_limit_and_lose_nothing(lengths: list[int], max_tokens: int) -> None:
    parts = batches.micro_batches(lengths, max_tokens)
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    for part in parts:
        assert part
        assert len(part) == 1 or len(part) * max(lengths[index] for index in part) <= max_tokens


def test_micro_batches_put_like_lengths_together() -> None:
    assert batches.micro_batches([3, 50, 4, 49], max_tokens=100) == [[1, 3], [2, 0]]
    assert batches.micro_batches([3, 3, 3], max_tokens=6) == [[0, 1], [2]]
    assert batches.micro_batches([3, 9], max_tokens=100) == [[1, 0]]


def test_a_part_that_is_big_enough_takes_no_row_that_is_mostly_padding() -> None:
    assert batches.micro_batches([100] * 11 + [80, 79, 5], max_tokens=10_000) == [[*range(12)], [12, 13]]
    assert batches.micro_batches([100] * 9 + [5], max_tokens=10_000) == [[*range(10)]]
