from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedful.maths import masks
from maths import golden

EOS, PAD = 1, 0


@golden.cases("token_masks", "eos_truncation")
def test_golden_truncation_and_positions(case):
    queries_BP, responses_BT, scores_B = case.tensors(torch.float64, "queries", "responses", "scores")
    pad_id, eos_id = case.inputs["pad_token_id"], case.inputs["eos_token_id"]
    truncated_BT, lengths_B, has_eos_B = masks.truncate_at_eos(responses_BT, eos_id, pad_id)
    mask_BT = masks.length_mask(lengths_B, responses_BT.shape[1])
    mask_BS = torch.cat([queries_BP != pad_id, mask_BT], dim=1)
    results = {
        "postprocessed_responses": truncated_BT,
        "response_lengths": lengths_B,
        "contains_eos": has_eos_B,
        "response_mask": mask_BT,
        "attention_mask": mask_BS,
        "position_ids_exclusive_cumsum": masks.position_ids(mask_BS),
        "scores_fixed_penalty": masks.penalise_missing_eos(scores_B, has_eos_B, case.inputs["fixed_penalty"]),
    }
    case.check(results)


def test_truncation_by_hand():
    responses_BT = torch.tensor([[5, EOS, 6, EOS], [EOS, EOS, 7, 8], [5, 6, 7, 8], [5, 6, 7, EOS]])
    truncated_BT, lengths_B, has_eos_B = masks.truncate_at_eos(responses_BT, EOS, PAD)
    assert truncated_BT.tolist() == [[5, EOS, PAD, PAD], [EOS, PAD, PAD, PAD], [5, 6, 7, 8], [5, 6, 7, EOS]]
    assert lengths_B.tolist() == [2, 1, 4, 4]
    assert has_eos_B.tolist() == [True, True, False, True]


def test_truncation_refuses_one_id_for_pad_and_eos():
    with pytest.raises(AssertionError, match="different ids"):
        masks.truncate_at_eos(torch.tensor([[5, 6]]), EOS, EOS)


def test_positions_do_not_depend_on_the_side_or_amount_of_padding():
    real = [0, 1, 2]
    mask_BS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0]]).bool()
    assert all(row[keep].tolist() == real for row, keep in zip(masks.position_ids(mask_BS), mask_BS, strict=True))


def test_missing_eos_replaces_the_score_even_a_nan():
    scores_B, has_eos_B = torch.tensor([2.0, -3.0, float("nan")]), torch.tensor([True, False, False])
    assert masks.penalise_missing_eos(scores_B, has_eos_B, -1.0).tolist() == [2.0, -1.0, -1.0]


@given(st.lists(st.lists(st.integers(1, 5), min_size=4, max_size=4), min_size=1, max_size=4), st.integers(0, 3))
def test_what_follows_eos_and_more_room_change_nothing(rows, extra):
    responses_BT = torch.tensor(rows)
    truncated_BT, lengths_B, has_eos_B = masks.truncate_at_eos(responses_BT, EOS, PAD)
    again = masks.truncate_at_eos(truncated_BT, EOS, PAD)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            (truncated_BT[has_eos_B], lengths_B[has_eos_B]), (again[0][has_eos_B], again[1][has_eos_B]), strict=True
        )
    )
    mask_BT = masks.length_mask(lengths_B, 4)
    assert torch.equal(masks.length_mask(lengths_B, 4 + extra)[:, :4], mask_BT)
    assert torch.equal(mask_BT.sum(-1), lengths_B)
    assert torch.equal(truncated_BT, masks.keep(responses_BT, mask_BT).long())


def test_keep_lets_neither_value_nor_gradient_of_padding_through():
    x = torch.tensor([1.0, float("nan"), float("inf")], requires_grad=True)
    kept = masks.keep(x, torch.tensor([True, False, False]))
    kept.exp().log().sum().backward()
    assert kept.tolist() == [1.0, 0.0, 0.0]
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    assert masks.keep(x.detach().bfloat16(), torch.tensor([True, True, False])).dtype == torch.float32
