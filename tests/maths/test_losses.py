from __future__ import annotations

import math

import pytest
import torch

from heedful.maths import losses, masks
from heedful.maths.advantages import gae, leave_one_out, whiten
from heedful.maths.kl import k3, shaped_rewards
from heedful.maths.statistics import reward_bias
from maths import golden

PPO_INPUTS = "logprobs", "old_logprobs", "advantages", "values", "old_values", "returns"


def ppo_losses(tensors, mask_BT, clip, value_clip):
    """Both losses, their metrics and their gradients under the names of the golden fields."""
    logprobs_BT, old_logprobs_BT, advantages_BT, values_BT, old_values_BT, returns_BT = tensors
    logprobs_BT.requires_grad_(), values_BT.requires_grad_()
    policy, count, metrics = losses.policy_loss(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip)
    value, value_count, value_metrics = losses.value_loss(values_BT, old_values_BT, returns_BT, mask_BT, value_clip)
    (policy / count + value / value_count).backward()
    return {
        "pg_loss": golden.mean((policy, count)),
        "vf_loss": golden.mean((value, value_count)),
        "pg_clipfrac": golden.mean(metrics["clipfrac"]),
        "vf_clipfrac": golden.mean(value_metrics["clipfrac"]),
        "approx_kl_k1": golden.mean(metrics["approx_kl_k1"]),
        "approx_kl_k2": golden.mean(metrics["approx_kl"]),
        "approx_kl_k3": golden.mean(metrics["approx_kl_k3"]),
        "ratio_mean": golden.mean(metrics["ratio"]),
        "ratio_max": metrics["ratio_max"],
        "grad_pg_wrt_logprobs": logprobs_BT.grad,
        "grad_vf_wrt_values": values_BT.grad,
    }


@golden.DTYPES
@golden.cases("ppo_loss", "masked", "fixed_length")
def test_golden_ppo_loss(case, dtype):
    tensors = case.tensors(dtype, *PPO_INPUTS)
    mask_BT = masks.length_mask(torch.tensor(case.inputs["response_lengths"]), tensors[0].shape[1])
    results = ppo_losses(tensors, mask_BT, case.inputs["cliprange"], case.inputs["cliprange_value"])
    results["total_loss"] = results["pg_loss"] + case.inputs["vf_coef"] * results["vf_loss"]
    case.check(results, dtype)


@golden.DTYPES
@golden.cases("ppo_step", "masked_population", "masked", "fixed_length")
def test_golden_ppo_step(case, dtype):
    inputs = case.inputs
    names = "scores", "old_logprobs", "ref_logprobs", "old_values"
    scores_B, old_BT, ref_BT, old_values_BT = case.tensors(dtype, *names)
    mask_BT = masks.length_mask(torch.tensor(inputs["response_lengths"]), old_BT.shape[1])
    unbiased = {"unbiased": True, "population": False}[inputs["whiten_variance"]]
    rewards_BT, kl_BT = shaped_rewards(scores_B, old_BT, ref_BT, mask_BT, inputs["kl_coef"])
    if inputs["whiten_rewards"]:
        used_BT = whiten(rewards_BT, mask_BT, shift_mean=False, unbiased=unbiased)
    else:
        used_BT = rewards_BT
    advantages_BT, returns_BT = gae(used_BT, old_values_BT, mask_BT, inputs["gamma"], inputs["lam"])
    advantages_BT = whiten(advantages_BT, mask_BT, unbiased=unbiased)
    logprobs_BT, values_BT = case.tensors(dtype, "logprobs", "values")
    tensors = logprobs_BT, old_BT, advantages_BT, values_BT, old_values_BT, returns_BT
    results = ppo_losses(tensors, mask_BT, inputs["cliprange"], inputs["cliprange_value"])
    results["total_loss"] = results["pg_loss"] + inputs["vf_coef"] * results["vf_loss"]
    results |= {"mean_kl": kl_BT.sum(-1).mean(), "rewards": rewards_BT, "returns": returns_BT}
    results["advantages"] = advantages_BT
    for unchecked in ("approx_kl_k1", "approx_kl_k3", "ratio_mean", "ratio_max"):
        del results[unchecked]
    case.check(results, dtype)


@golden.DTYPES
@golden.cases("preference_losses", "rloo_trl")
def test_golden_rloo(case, dtype):
    """[prompt][sample] tensors; the KL is in the reward, before the baseline."""
    inputs = case.inputs
    (scores_GK,) = case.tensors(dtype, "scores")
    new_BT, old_BT, ref_BT = (x.flatten(0, 1) for x in case.tensors(dtype, "logprobs", "old_logprobs", "ref_logprobs"))
    mask_BT = masks.length_mask(torch.tensor(inputs["response_lengths"]).flatten(), new_BT.shape[1])
    rewards_BT, _ = shaped_rewards(scores_GK.flatten(), old_BT, ref_BT, mask_BT, inputs["kl_coef"])
    rewards_GK = rewards_BT.sum(1).view(scores_GK.shape)
    advantages_GK = leave_one_out(rewards_GK)
    loss, count, metrics = losses.rloo_loss(
        new_BT, old_BT, ref_BT, advantages_GK.flatten(), mask_BT, inputs["cliprange"]
    )
    case.check(
        {
            "rlhf_reward": rewards_GK,
            "baseline": rewards_GK - advantages_GK,
            "advantages": advantages_GK,
            "pg_loss": golden.mean((loss, count)),
            "clipfrac": golden.mean(metrics["clipfrac"]),
        },
        dtype,
    )


@golden.DTYPES
@golden.cases("preference_losses", "grpo_loss_grpo", "grpo_loss_bnpo", "grpo_loss_dr_grpo")
def test_golden_grpo_loss(case, dtype):
    inputs = case.inputs
    new_BT, old_BT, ref_BT = case.tensors(dtype, "logprobs", "old_logprobs", "ref_logprobs")
    (advantages_B,) = case.tensors(dtype, "advantages")
    mask_BT = masks.length_mask(torch.tensor(inputs["response_lengths"]), new_BT.shape[1])
    advantages_BT = masks.keep(advantages_B[:, None], mask_BT)
    loss_type, longest = case.variant.removeprefix("grpo_loss_"), inputs["max_completion_length"]
    new_BT.requires_grad_()
    loss, count, metrics = losses.grpo_loss(
        new_BT, old_BT, ref_BT, advantages_BT, mask_BT, inputs["epsilon"], inputs["beta"], loss_type, longest
    )
    (loss / count).backward()
    case.check(
        {
            "loss": golden.mean((loss, count)),
            "per_token_kl": masks.keep(k3(new_BT, ref_BT), mask_BT),
            "grad_wrt_logprobs": new_BT.grad,
            "mean_kl": golden.mean(metrics["kl_k3"]),
        },
        dtype,
    )


def test_rloo_with_the_kl_in_the_loss_by_hand():
    """Two responses at ratio 1: the loss is -A each, plus the coefficient times the summed k3."""
    logprobs_BT = torch.tensor([[-1.0, -2.0], [-3.0, -9.0]])
    ref_BT = torch.tensor([[-1.5, -2.0], [-2.0, 7.0]])
    mask_BT = torch.tensor([[True, True], [True, False]])
    loss, count, metrics = losses.rloo_loss(
        logprobs_BT, logprobs_BT, ref_BT, torch.tensor([2.0, -1.0]), mask_BT, 0.2, kl_coef=0.5
    )
    k3s = (math.exp(-0.5) - 1 + 0.5) + (math.exp(1.0) - 1 - 1.0)
    assert loss.item() == pytest.approx(-2.0 + 1.0 + 0.5 * k3s, abs=1e-6)
    assert count.item() == 2
    assert golden.mean(metrics["kl_k3"]) == pytest.approx(k3s / 3, abs=1e-6)


def padded_prompts(case, dtype):
    """rewards_BK, ranks_BK, mask_BK with garbage where a prompt has fewer completions."""
    prompts = case.inputs["prompts"]
    lengths_B = torch.tensor([len(prompt["rewards"]) for prompt in prompts])
    width = int(lengths_B.max()) + 1
    rewards_BK = torch.full((len(prompts), width), math.nan, dtype=dtype)
    ranks_BK = torch.full((len(prompts), width), 99)
    for row, prompt in enumerate(prompts):
        rewards_BK[row, : lengths_B[row]] = torch.tensor(prompt["rewards"], dtype=dtype)
        ranks_BK[row, : lengths_B[row]] = torch.tensor(prompt["ranks"])
    return rewards_BK.requires_grad_(), ranks_BK, masks.length_mask(lengths_B, width)


@golden.DTYPES
@golden.cases("rm_ranking_loss", "no_ties", "ties", "single_k", "all_tied")
def test_golden_ranking_loss(case, dtype):
    for normaliser in ("k_choose_2", "valid_pairs"):
        if normaliser not in case.expected:
            continue
        rewards_BK, ranks_BK, mask_BK = padded_prompts(case, dtype)
        rows = [
            losses.ranking_loss(*row, normaliser)
            for row in zip(*(tensor.split(1) for tensor in (rewards_BK.detach(), ranks_BK, mask_BK)), strict=True)
        ]
        total, count, metrics = losses.ranking_loss(rewards_BK, ranks_BK, mask_BK, normaliser)
        (total / count).backward()
        expected = case.expected[normaliser]
        tolerance = {"rtol": case.rtol, "atol": case.atol} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
        assert [row[0].item() for row in rows] == pytest.approx(
            expected["prompt_losses"], abs=tolerance["atol"], rel=tolerance["rtol"]
        )
        assert golden.mean((total, count)) == pytest.approx(
            expected["batch_loss"], abs=tolerance["atol"], rel=tolerance["rtol"]
        )
        for grad_K, mask_K, expected_K in zip(
            rewards_BK.grad, mask_BK, expected["grad_batch_loss_wrt_rewards"], strict=True
        ):
            torch.testing.assert_close(grad_K[mask_K], torch.tensor(expected_K, dtype=dtype), **tolerance)
            assert not grad_K[~mask_K].any()
        assert [row[2]["accuracy"][1].item() for row in rows] == case.expected["n_pairs"]
        if "pair_accuracy" in case.expected:
            assert golden.mean(metrics["accuracy"]) == pytest.approx(case.expected["pair_accuracy"])
            assert golden.mean(metrics["pair_loss"]) == pytest.approx(
                case.expected["flat_pair_mean_loss"], rel=tolerance["rtol"]
            )


@golden.cases("rm_ranking_loss", "normalise_bias")
def test_golden_reward_bias(case):
    bias = reward_bias(case.inputs["raw_demonstration_rewards"])
    case.check({"bias": bias, "normalised_rewards": [reward + bias for reward in case.inputs["raw_rewards"]]})


@golden.DTYPES
@golden.cases("preference_losses", "dpo")
def test_golden_dpo(case, dtype):
    four = case.tensors(dtype, "policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    beta, smoothing = case.inputs["beta"], case.inputs["label_smoothing"]

    def each(name=None, **options):
        rows = [losses.dpo_loss(*row, beta, **options) for row in zip(*(x.split(1) for x in four), strict=True)]
        return torch.stack([row[2][name][0] if name else row[0] for row in rows]).detach()

    four[0].requires_grad_()
    total, count, metrics = losses.dpo_loss(*four, beta, smoothing)
    (total / count).backward()
    case.check(
        {
            "losses": each(label_smoothing=smoothing),
            "mean_loss": golden.mean((total, count)),
            "chosen_rewards": each("reward_w"),
            "rejected_rewards": each("reward_l"),
            "accuracy": golden.mean(metrics["accuracy"]),
            "grad_mean_loss_wrt_policy_chosen": four[0].grad,
            "ipo_losses": each(kind="ipo"),
        },
        dtype,
    )


def test_policy_loss_by_hand():
    """Ratios 2, 1/2, 1 with clip 0.2: A = 1 is cut at 1.2, A = -1 at -0.8 and A = 3 is not cut."""
    logprobs_BT = torch.tensor([[2.0, 0.5], [1.0, math.nan]]).log().requires_grad_()
    zeros_BT, advantages_BT = torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [3.0, math.nan]])
    mask_BT = torch.tensor([[True, True], [True, False]])
    total, count, metrics = losses.policy_loss(logprobs_BT, zeros_BT, advantages_BT, mask_BT, 0.2)
    total.backward()
    assert (total.item(), count.item()) == (pytest.approx(-1.2 + 0.8 - 3.0), 3)
    assert logprobs_BT.grad.tolist() == [[0.0, 0.0], [-3.0, 0.0]]
    assert [value.item() for value in metrics["clipfrac"]] == [2, 3]
    assert [value.item() for value in metrics["ratio"]] == [3.5, 3]
    assert metrics["ratio_max"].item() == pytest.approx(2.0)
    assert metrics["approx_kl_k1"][0].item() == pytest.approx(0.0, abs=1e-6)
    assert metrics["approx_kl"][0].item() == pytest.approx(math.log(2) ** 2)
    assert metrics["approx_kl_k3"][0].item() == pytest.approx(0.5)


def test_metrics_carry_no_gradient():
    ones_BT, mask_BT = torch.ones(1, 2, requires_grad=True), torch.ones(1, 2).bool()
    for metrics in (
        losses.policy_loss(ones_BT, ones_BT, ones_BT, mask_BT, 0.2)[2],
        losses.value_loss(ones_BT, ones_BT, ones_BT, mask_BT, 0.2)[2],
        losses.ranking_loss(ones_BT, torch.tensor([[0, 1]]), mask_BT)[2],
        losses.dpo_loss(ones_BT, ones_BT, ones_BT, ones_BT, 0.1)[2],
    ):
        for value in metrics.values():
            parts = value if isinstance(value, tuple) else (value,)
            assert not any(part.requires_grad for part in parts)


def test_value_loss_by_hand():
    """Value 3, old 1, return 2.5, clip 0.5: squared errors 0.25 and, clipped, 1. Then value 1, return 2: 1 and 1."""
    values_BT = torch.tensor([[3.0, 1.0, math.inf]]).requires_grad_()
    old_values_BT = torch.tensor([[1.0, 1.0, math.nan]])
    returns_BT, mask_BT = torch.tensor([[2.5, 2.0, math.nan]]), torch.tensor([[True, True, False]])
    total, count, metrics = losses.value_loss(values_BT, old_values_BT, returns_BT, mask_BT, 0.5)
    total.backward()
    assert (total.item(), count.item()) == (1.0, 2)
    assert values_BT.grad.tolist() == [[0.0, -1.0, 0.0]]
    sums = {name: value[0].item() for name, value in metrics.items()}
    assert sums == {"clipfrac": 1, "error": 0.5, "error_squared": 1.25, "returns": 4.5, "returns_squared": 10.25}
    unclipped, _, _ = losses.value_loss(values_BT, old_values_BT, returns_BT, mask_BT, math.inf)
    assert unclipped.item() == pytest.approx(0.5 * 0.25 + 0.5)


def test_explained_variance():
    returns_BT, mask_BT = torch.tensor([[1.0, 2.0, 6.0, 9.0]]), torch.ones(1, 4).bool()
    values_BT = torch.tensor([[2.0, 2.0, 5.0, 8.0]])

    def explained(values_BT):
        _, _, metrics = losses.value_loss(values_BT, values_BT, returns_BT, mask_BT, 0.2)
        return losses.explained_variance({name: golden.mean(value) for name, value in metrics.items()})

    expected = 1 - (returns_BT - values_BT).var(correction=0) / returns_BT.var(correction=0)
    assert explained(values_BT) == pytest.approx(expected.item())
    assert explained(returns_BT) == pytest.approx(1.0)
    assert explained(returns_BT + 7) == pytest.approx(1.0), "an offset is no lack of explanation"
    assert explained(torch.zeros(1, 4)) == pytest.approx(0.0)
    assert math.isnan(
        losses.explained_variance({"returns": 2.0, "returns_squared": 4.0, "error": 0.0, "error_squared": 0.0})
    )


def test_the_normaliser_matters_where_there_are_ties():
    """Three completions, the first two tied: two of three pairs remain, both at margin 0, loss ln 2 each."""
    arguments = torch.zeros(1, 3), torch.tensor([[0, 0, 1]]), torch.ones(1, 3).bool()
    assert losses.ranking_loss(*arguments)[0].item() == pytest.approx(2 / 3 * math.log(2))
    assert losses.ranking_loss(*arguments, "valid_pairs")[0].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("normaliser", ["k_choose_2", "valid_pairs"])
def test_all_tied_prompts_are_counted_and_padding_rows_are_not(normaliser):
    rewards_BK = torch.tensor([[1.0, 3.0], [5.0, 5.0], [math.nan, math.nan]]).requires_grad_()
    ranks_BK = torch.tensor([[1, 0], [2, 2], [0, 1]])
    mask_BK = torch.tensor([[True, True], [True, True], [False, False]])
    total, count, metrics = losses.ranking_loss(rewards_BK, ranks_BK, mask_BK, normaliser)
    total.backward()
    assert (total.item(), count.item()) == (pytest.approx(math.log1p(math.exp(-2))), 2)
    assert [value.item() for value in metrics["all_tied"]] == [1, 2]
    assert [value.item() for value in metrics["accuracy"]] == [1, 1]
    assert rewards_BK.grad[1:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_an_equal_score_is_half_right():
    _, _, metrics = losses.ranking_loss(torch.zeros(1, 2), torch.tensor([[0, 1]]), torch.ones(1, 2).bool())
    assert metrics["accuracy"][0].item() == 0.5


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e4])
def test_explained_variance_does_not_feel_an_offset(offset):
    """Sums of squares in float32 would lose it: the variance is 1, the squares are a million."""
    generator = torch.Generator().manual_seed(0)
    returns_BT = torch.randn(64, 50, generator=generator)
    values_BT = returns_BT + 0.5 * torch.randn(64, 50, generator=generator)
    expected = 1 - float((returns_BT - values_BT).double().var() / returns_BT.double().var())
    wide_BT, mask_BT = returns_BT + offset, torch.ones(64, 50, dtype=torch.bool)
    values_BT = wide_BT + (values_BT - returns_BT)
    total, _, metrics = losses.value_loss(values_BT, values_BT, wide_BT, mask_BT, 0.2)
    means = {name: float(a) / float(b) for name, (a, b) in metrics.items()}
    assert losses.explained_variance(means) == pytest.approx(expected, abs=0.002)
    assert total.dtype == torch.float32


def test_pairs_of_equal_completions_do_not_count() -> None:
    """Completions 0 and 2 are the same text in two tiers: two pairs are left, with margins 1 and -1."""
    rewards_BK, ranks_BK = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0, 1, 2]])
    firsts_BK = torch.tensor([[0, 1, 0]])
    loss, _, metrics = losses.ranking_loss(rewards_BK, ranks_BK, ranks_BK >= 0, "valid_pairs", None, firsts_BK)
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(1))) / 2)
    assert [float(x) for x in metrics["accuracy"]] == [1.0, 2.0]
    alike = torch.tensor([[0, 0, 0]])
    loss, _, metrics = losses.ranking_loss(rewards_BK, ranks_BK, ranks_BK >= 0, "valid_pairs", None, alike)
    assert (loss.item(), metrics["accuracy"][1].item(), metrics["all_tied"][0].item()) == (0.0, 0, 1)
