from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from heedful.maths import masks
from maths import golden


@golden.cases("token_masks", "eos_truncation")
def test_golden_masks_and_positions(case):
    queries_BP, responses_BT, scores_B = case.tensors(torch.float64, "queries", "responses", "scores")
    lengths_B, has_eos_B = (torch.tensor(case.expected[name]) for name in ("response_lengths", "contains_eos"))
    mask_BT = masks.length_mask(lengths_B, responses_BT.shape[1])
    mask_BS = torch.cat([queries_BP != case.inputs["pad_token_id"], mask_BT], dim=1)
    results = {
        "response_mask": mask_BT,
        "attention_mask": mask_BS,
        "position_ids_exclusive_cumsum": masks.position_ids(mask_BS),
        "scores_fixed_penalty": masks.penalise_missing_eos(scores_B, has_eos_B, case.inputs["fixed_penalty"]),
    }
    case.check(results)


def test_positions_do_not_depend_on_the_side_or_amount_of_padding():
    real = [0, 1, 2]
    mask_BS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()
    assert all(row[keep].tolist() == real for row, keep in zip(masks.position_ids(mask_BS), mask_BS, strict=True))


def test_missing_eos_replaces_the_score_even_a_nan():
    scores_B, has_eos_B = torch.tensor([2.0, -3.0, float("nan")]), torch.tensor([True, False, False])
    assert masks.penalise_missing_eos(scores_B, has_eos_B, -1.0).tolist() == [2.0, -1.0, -1.0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 3))
def test_more_room_changes_nothing(lengths, extra):
    lengths_B = torch.tensor(lengths)
    mask_BT = masks.length_mask(lengths_B, 4)
    assert torch.equal(masks.length_mask(lengths_B, 4 + extra)[:, :4], mask_BT)
    assert torch.equal(mask_BT.sum(-1), lengths_B)
