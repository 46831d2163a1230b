from __future__ import annotations

import math

import pytest
import torch

from heedful.maths import masks
from heedful.maths.advantages import gae, group_relative, leave_one_out, whiten
from maths import golden


def case_mask(case, T):
    return masks.length_mask(torch.tensor(case.inputs["response_lengths"]), T)


@golden.DTYPES
@golden.cases("gae", "masked")
def test_golden_gae(case, dtype):
    rewards_BT, values_BT = case.tensors(dtype, "rewards", "values")
    mask_BT = case_mask(case, rewards_BT.shape[1])
    advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, case.inputs["gamma"], case.inputs["lam"])
    case.check(
        {
            "advantages_raw": advantages_BT,
            "returns": returns_BT,
            "advantages_whitened_biased": whiten(advantages_BT, mask_BT),
            "advantages_whitened_unbiased": whiten(advantages_BT, mask_BT, unbiased=True),
        },
        dtype,
    )


@golden.DTYPES
@golden.cases("gae", "masked_whiten_rewards")
def test_golden_gae_with_whitened_rewards(case, dtype):
    rewards_BT, values_BT = case.tensors(dtype, "rewards", "values")
    mask_BT = case_mask(case, rewards_BT.shape[1])
    results = {}
    for name, unbiased in [("unbiased", True), ("biased", False)]:
        whitened_BT = whiten(rewards_BT, mask_BT, shift_mean=False, unbiased=unbiased)
        advantages_BT, returns_BT = gae(whitened_BT, values_BT, mask_BT, case.inputs["gamma"], case.inputs["lam"])
        results |= {
            f"rewards_whitened_{name}": whitened_BT,
            f"advantages_raw_{name}": advantages_BT,
            f"returns_{name}": returns_BT,
            f"advantages_whitened_{name}": whiten(advantages_BT, mask_BT, unbiased=unbiased),
        }
    case.check(results, dtype)


@golden.DTYPES
@golden.cases("preference_losses", "rloo_scores_only")
def test_golden_leave_one_out(case, dtype):
    (scores_GK,) = case.tensors(dtype, "scores")
    advantages_GK = leave_one_out(scores_GK)
    case.check({"baseline": scores_GK - advantages_GK, "advantages": advantages_GK}, dtype)


@golden.DTYPES
@golden.cases("preference_losses", "grpo_advantages")
def test_golden_group_relative(case, dtype):
    (scores_GK,) = case.tensors(dtype, "scores")
    case.check(
        {
            "std_eps_1e4": group_relative(scores_GK),
            "std_eps_1e6": group_relative(scores_GK, eps=1e-6),
            "mean_only": group_relative(scores_GK, scale=False),
        },
        dtype,
    )


def test_groups_by_hand():
    rewards_GK = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    torch.testing.assert_close(leave_one_out(rewards_GK), torch.tensor([[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]))
    std = math.sqrt((4 + 1 + 9) / 2) + 1e-4  # equal rewards teach nothing
    torch.testing.assert_close(group_relative(rewards_GK), torch.tensor([[-2 / std, -1 / std, 3 / std], [0.0, 0, 0]]))


@golden.DTYPES
@golden.cases("gae", "fixed_length")
def test_golden_gae_without_padding(case, dtype):
    rewards_BT, values_BT = case.tensors(dtype, "rewards", "values")
    mask_BT = torch.ones_like(rewards_BT).bool()
    assert case.inputs["whiten_variance"] == "population"
    if case.inputs["whiten_rewards"]:
        rewards_BT = whiten(rewards_BT, mask_BT, shift_mean=False)
    advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, case.inputs["gamma"], case.inputs["lam"])
    case.check({"advantages_whitened": whiten(advantages_BT, mask_BT), "returns": returns_BT}, dtype)


@golden.DTYPES
@golden.cases("gae", "masked_whiten_only")
def test_golden_whitening(case, dtype):
    (values_BT,) = case.tensors(dtype, "values")
    mask_BT = case_mask(case, values_BT.shape[1])
    results = {
        f"{shift}_{variance}": whiten(values_BT, mask_BT, shift_mean=shift == "shift", unbiased=variance == "unbiased")
        for shift in ("shift", "noshift")
        for variance in ("unbiased", "biased")
    }
    case.check(results, dtype)


def test_gae_by_hand():
    """Two steps, gamma 1/2, lambda 1/2: delta = [1 + 4/2 - 2, 3 - 4] = [1, -1], A = [1 - 1/4, -1]."""
    rewards_BT, values_BT = torch.tensor([[1.0, 3.0, math.nan]]), torch.tensor([[2.0, 4.0, 100.0]])
    mask_BT = torch.tensor([[True, True, False]])
    advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, 0.5, 0.5)
    assert advantages_BT.tolist() == [[0.75, -1.0, 0.0]]
    assert returns_BT.tolist() == [[2.75, 3.0, 0.0]]
    assert rewards_BT[0, 0] == 1.0, "inputs stay as they are"


def test_gae_of_one_step():
    advantages_BT, returns_BT = gae(torch.tensor([[5.0]]), torch.tensor([[2.0]]), torch.tensor([[True]]), 1.0, 0.95)
    assert (advantages_BT.item(), returns_BT.item()) == (3.0, 5.0)


def test_whiten_by_hand():
    x_BT, mask_BT = torch.tensor([[1.0, 3.0], [8.0, math.inf]]), torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(whiten(x_BT, mask_BT), torch.tensor([[-3.0, -1.0], [4.0, 0.0]]) / (26 / 3) ** 0.5)
    torch.testing.assert_close(whiten(x_BT, mask_BT, unbiased=True), torch.tensor([[-3.0, -1.0], [4.0, 0.0]]) / 13**0.5)
    torch.testing.assert_close(
        whiten(x_BT, mask_BT, shift_mean=False),
        torch.tensor([[-3.0, -1.0], [4.0, 0.0]]) / (26 / 3) ** 0.5 + torch.tensor([[4.0, 4.0], [4.0, 0.0]]),
    )


@pytest.mark.parametrize("unbiased", [False, True])
def test_whiten_of_one_value_or_of_none_is_zero(unbiased):
    x_BT = torch.tensor([[5.0, 6.0]])
    assert whiten(x_BT, torch.tensor([[True, False]]), unbiased=unbiased).tolist() == [[0.0, 0.0]]
    assert whiten(x_BT, torch.tensor([[False, False]]), unbiased=unbiased).tolist() == [[0.0, 0.0]]
