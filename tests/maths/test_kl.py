from __future__ import annotations

import math

import pytest
import torch

from heedful.maths import kl, masks
from maths import golden


@golden.DTYPES
@golden.cases("kl_rewards", "last_token", "fixed_length")
def test_golden_shaped_rewards(case, dtype):
    scores_B, logprobs_BT, ref_logprobs_BT = case.tensors(dtype, "scores", "logprobs", "ref_logprobs")
    T = logprobs_BT.shape[1]
    lengths_B = torch.tensor(case.inputs.get("response_lengths", [T] * len(scores_B)))
    mask_BT = masks.length_mask(lengths_B, T)
    beta = case.inputs["kl_coef"]
    rewards_BT, kl_BT = kl.shaped_rewards(scores_B, logprobs_BT, ref_logprobs_BT, mask_BT, beta)
    unscored_BT, _ = kl.shaped_rewards(torch.zeros_like(scores_B), logprobs_BT, ref_logprobs_BT, mask_BT, beta)
    results = {
        "kl": kl_BT,
        "non_score_reward": unscored_BT,
        "rewards": rewards_BT,
        "mean_kl": kl_BT.sum(-1).mean(),
    }
    if case.variant == "last_token":
        results |= {
            "score_index": (rewards_BT - unscored_BT).abs().argmax(-1),
            "kl_sum_per_sequence": kl_BT.sum(-1),
            "rlhf_reward_per_sequence": rewards_BT.sum(-1),
        }
    case.check(results, dtype)


@golden.DTYPES
@golden.cases("kl_rewards", "kl_estimators")
def test_golden_estimators(case, dtype):
    pair = case.tensors(dtype, "logprobs", "ref_logprobs")
    case.check({"k1": kl.k1(*pair), "k2": kl.k2(*pair), "k3": kl.k3(*pair)}, dtype)


@golden.cases("kl_controller", "adaptive")
def test_golden_adaptive_coefficient(case):
    inputs, beta, betas = case.inputs, case.inputs["init_kl_coef"], []
    for measured in inputs["current_kl"]:
        beta = kl.adapt_kl_coef(beta, measured, inputs["target"], inputs["horizon"], inputs["n_steps"])
        betas.append(beta)
    case.check({"kl_coef": betas})


def test_adaptive_coefficient_by_hand():
    assert kl.adapt_kl_coef(0.1, 6.6, target=6.0, horizon=1000, episodes=500) == pytest.approx(0.1 * 1.05)
    assert kl.adapt_kl_coef(0.1, 60.0, target=6.0, horizon=1000, episodes=500) == pytest.approx(0.1 * 1.1)
    assert kl.adapt_kl_coef(0.1, 0.0, target=6.0, horizon=1000, episodes=500) == pytest.approx(0.1 * 0.9)


def test_shaped_rewards_by_hand():
    logprobs_BT = torch.tensor([[-1.0, -2.0, math.nan], [-1.0, math.inf, math.nan]])
    ref_logprobs_BT = torch.tensor([[-2.0, -1.5, math.nan], [-1.0, math.inf, math.inf]])
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    rewards_BT, kl_BT = kl.shaped_rewards(torch.tensor([3.0, 4.0]), logprobs_BT, ref_logprobs_BT, mask_BT, 0.1)
    assert kl_BT.tolist() == [[1.0, -0.5, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(rewards_BT, torch.tensor([[-0.1, 3.05, 0.0], [4.0, 0.0, 0.0]]))


def test_shaped_rewards_refuse_an_empty_response():
    zeros_BT, mask_BT = torch.zeros(2, 2), torch.tensor([[True, True], [False, False]])
    with pytest.raises(AssertionError, match="at least one token"):
        kl.shaped_rewards(torch.ones(2), zeros_BT, zeros_BT, mask_BT, 0.1)


def test_estimators_under_samples_of_the_policy():
    policy_V, ref_V = torch.tensor([0.6, 0.3, 0.1]).double(), torch.tensor([0.3, 0.3, 0.4]).double()
    exact = 0.6 * math.log(2) + 0.1 * math.log(1 / 4)
    pair = policy_V.log(), ref_V.log()
    assert (policy_V @ kl.k1(*pair)).item() == pytest.approx(exact)
    assert (policy_V @ kl.k3(*pair)).item() == pytest.approx(exact)
    assert kl.k3(*pair).min() >= 0
    assert kl.k2(*pair)[0].item() == pytest.approx(math.log(2) ** 2 / 2)
