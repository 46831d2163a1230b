"""Where the tokens of packed rows lie."""

from __future__ import annotations

import pytest
import torch

from heedful.fast import layout
from heedful.fast.layout import PackedRow, pack
from heedful.models import batches

PAD = 1


def test_a_shared_prompt_is_laid_down_once_and_nothing_is_padded() -> None:
    packed = pack(torch.tensor([[5, 6, 7, 8], [9, 2, 1, 1], [5, 6, 4, 1]]), [4, 2, 3], [2, 1, 2], [0, 1, 0])
    assert packed.ids_N.tolist() == [5, 6, 9, 2, 7, 8, 4]
    assert packed.positions_N.tolist() == [0, 1, 0, 1, 2, 3, 2]
    assert [packed.place_BS[b, :n].tolist() for b, n in enumerate([4, 2, 3])] == [[0, 1, 4, 5], [2, 3], [0, 1, 6]]
    assert packed.rows == [PackedRow(0, 2, 0, 0), PackedRow(2, 4, 0, 0), PackedRow(4, 6, 0, 2), PackedRow(6, 7, 0, 2)]


def test_the_drawing_of_the_module() -> None:
    packed = pack(torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 6, 0], [7, 8, 9, 0, 0]]), [5, 4, 3], [3, 3, 1], [0, 0, 2])
    assert packed.ids_N.tolist() == [1, 2, 3, 7, 8, 9, 4, 5, 6]
    assert packed.positions_N.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 3]
    assert packed.groups == [
        [PackedRow(0, 3, 0, 0), PackedRow(3, 6, 0, 0)],
        [PackedRow(6, 8, 0, 3)],
        [PackedRow(8, 9, 0, 3)],
    ]


def test_rows_with_little_in_common_are_laid_end_to_end_longest_first() -> None:
    packed = pack(torch.tensor([[5, 6, 7, 1], [9, 2, 3, 4]]), [3, 4], [1, 1], [0, 0])
    assert any(row.before for row in packed.rows)  # one of seven tokens
    packed = pack(torch.tensor([[5] * 12, [5] * 12]), [12, 12], [1, 1], [0, 0])  # one of 24
    assert not any(row.before for row in packed.rows)
    assert packed.positions_N.tolist() == [*range(12), *range(12)]


@pytest.mark.parametrize(("stretch", "sizes"), [(1.25, [2, 1, 1, 1]), (4.0, [4, 1])])
def test_rows_of_other_length_start_a_group(stretch: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layout.STRETCH, "cpu", stretch)
    packed = batches.collate([[3]] * 5, [[4] * n for n in (20, 2, 17, 11, 5)], PAD).layout
    assert [len(group) for group in packed.groups] == sizes


def test_a_block_by_hand() -> None:
    """Rows [d e] and [f] that continue the prompt [a b], which lies at tokens 0 and 1."""
    block = layout._block([PackedRow(2, 4, 0, 2), PackedRow(4, 5, 0, 2)], torch.device("cpu"))
    assert block.source.tolist() == [0, 1, 2, 0]
    assert block.slots.tolist() == [0, 1, 2]
    assert block.seen.tolist() == [0, 1, 2, 3, 0, 1, 4, 2]
    assert block.positions_GT.tolist() == [[2, 3], [2, 2]]  # at padding, that of the last token
    assert block.positions_GC[:, :3].tolist() == [[0, 1, 2], [0, 1, 2]]
    seen = block.bias_GTC(None) == 0
    assert seen.tolist() == [[[True, True, True, False], [True] * 4], [[True, True, True, False]] * 2]
    assert (block.bias_GTC(2) == 0)[0].tolist() == [[False, True, True, False], [False, False, True, True]]
    assert torch.equal(block.lay(block.pad(torch.arange(3.0)[:, None])), torch.arange(3.0)[:, None])


def test_the_bounds_of_rows_that_share_a_prompt() -> None:
    packed = pack(torch.tensor([[5, 6, 7, 8], [9, 2, 1, 1], [5, 6, 4, 1]]), [4, 2, 3], [2, 1, 2], [0, 1, 0])
    bounds = packed.bounds
    assert bounds.queries.tolist() == [0, 2, 4, 6, 7]
    assert bounds.keys.tolist() == [0, 2, 4, 8, 11]
    assert (bounds.longest_query, bounds.longest_key) == (2, 4)
    assert bounds.gather.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 0, 1, 6]
    assert bounds.queries.dtype == torch.int32
    assert batches.collate([[3], [4]], [[4] * 3, [5] * 2], PAD).layout.bounds.gather is None


def test_the_reach_is_the_mean_length_that_a_token_may_look_back_on() -> None:
    packed = batches.collate([[3] * 30] * 2, [[4] * 10, [5] * 20], PAD).layout
    assert packed.reach == (30 * 30 + 10 * 40 + 20 * 50) / 60


def test_many_tokens_are_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MANY", 1)
    packed = batches.collate([[3, 4]], [[5, 6, 7]], PAD).layout
    assert len(packed.ids_N) == layout.ROUND
    assert packed.spare == layout.ROUND - 5
