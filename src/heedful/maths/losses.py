"""Losses as (sum, count), metrics likewise. Letters, masks, sums and counts: docs/conventions.md.

The mean is taken once, by whoever knows the counts of all micro-batches and ranks (P14). Sums carry the gradient of the
loss only; metrics are detached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedful.maths.kl import k1, k2, k3
from heedful.maths.masks import keep
from heedful.maths.statistics import wins

SumCount = tuple[Tensor, Tensor]


def policy_loss(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, clip: float
) -> tuple[Tensor, Tensor, dict[str, SumCount | Tensor]]:
    """Clipped surrogate over real tokens (P14): max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)).

    Metrics: `clipfrac`, `approx_kl_k1`, `approx_kl` (k2), `approx_kl_k3` of KL(old || new), `ratio` as (sum, count);
    and `ratio_max`, a plain tensor, since a maximum is combined by taking maxima.
    """
    log_ratio_BT = keep(logprobs_BT - old_logprobs_BT, mask_BT)
    advantages_BT = keep(advantages_BT, mask_BT)
    ratio_BT = log_ratio_BT.exp()
    unclipped_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip, 1 + clip)
    loss = keep(torch.maximum(unclipped_BT, clipped_BT), mask_BT).sum()

    count = mask_BT.sum()
    zero_BT, log_ratio_BT, ratio_BT = torch.zeros_like(log_ratio_BT), log_ratio_BT.detach(), ratio_BT.detach()
    metrics: dict[str, SumCount | Tensor] = {
        "clipfrac": ((mask_BT & (clipped_BT > unclipped_BT)).sum(), count),
        "approx_kl_k1": (k1(zero_BT, log_ratio_BT).sum(), count),
        "approx_kl": (k2(zero_BT, log_ratio_BT).sum(), count),
        "approx_kl_k3": (k3(zero_BT, log_ratio_BT).sum(), count),
        "ratio": (keep(ratio_BT, mask_BT).sum(), count),
        "ratio_max": keep(ratio_BT, mask_BT).max(),
    }
    return loss, count, metrics


def value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, clip: float
) -> tuple[Tensor, Tensor, dict[str, SumCount]]:
    """Half the larger of the plain and the clipped squared error over real tokens (P15); clip = inf: no clipping.

    Metrics: `clipfrac`, and the moments `error`, `error_squared`, `returns`, `returns_squared`
    (error = returns - values) whose means `explained_variance` takes.
    """
    values_BT, old_values_BT = keep(values_BT, mask_BT), keep(old_values_BT, mask_BT)
    returns_BT = keep(returns_BT, mask_BT)
    # clamped between bounds, not as old + clamped difference, whose round-off would count as clipping
    near_old_BT = values_BT.clamp(old_values_BT - clip, old_values_BT + clip)
    plain_BT = (values_BT - returns_BT).square()
    clipped_BT = (near_old_BT - returns_BT).square()
    loss = 0.5 * torch.maximum(plain_BT, clipped_BT).sum()

    count = mask_BT.sum()
    plain_BT = plain_BT.detach()
    metrics = {
        "clipfrac": ((clipped_BT > plain_BT).sum(), count),
        "error": ((returns_BT - values_BT).detach().sum(), count),
        "error_squared": (plain_BT.sum(), count),
        "returns": (returns_BT.detach().sum(), count),
        "returns_squared": (returns_BT.detach().square().sum(), count),
    }
    return loss, count, metrics


def explained_variance(means: Mapping[str, float]) -> float:
    """1 - Var(returns - values) / Var(returns) from the means of `value_loss`'s metrics; NaN if returns do not vary."""
    variance = means["returns_squared"] - means["returns"] ** 2
    unexplained = means["error_squared"] - means["error"] ** 2
    return 1.0 - unexplained / variance if variance > 0 else float("nan")


def language_loss(logprobs_BT: Tensor, mask_BT: Tensor) -> SumCount:
    """Cross-entropy in nats over real tokens: SFT (S1), pretraining, ptx (P21)."""
    return -keep(logprobs_BT, mask_BT).sum(), mask_BT.sum()


def ranking_loss(
    rewards_BK: Tensor,
    ranks_BK: Tensor,
    mask_BK: Tensor,
    normaliser: Literal["k_choose_2", "valid_pairs"] = "k_choose_2",
    weights_B: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, SumCount]]:
    """-log sigmoid(r_w - r_l) over the pairs with rank w < rank l, divided per prompt by the normaliser (R2, R3).

    B prompts of up to K completions, the better the smaller the rank; tied pairs are dropped. `k_choose_2` divides by
    all pairs, ties included; `valid_pairs` by those that remain. The count is of prompts, all-tied ones (loss 0) too,
    or with `weights_B` the sum of their weights, so that sum / count is the weighted mean.
    Metrics: `accuracy` (equal rewards count half) and `pair_loss` over pairs, `all_tied` over prompts.
    """
    rewards_BK = keep(rewards_BK, mask_BK)
    pairs_BKK = (ranks_BK[:, :, None] < ranks_BK[:, None, :]) & mask_BK[:, :, None] & mask_BK[:, None, :]
    margins_BKK = rewards_BK[:, :, None] - rewards_BK[:, None, :]
    losses_B = keep(-logsigmoid(margins_BKK), pairs_BKK).sum((-2, -1))

    valid_B, K_B = pairs_BKK.sum((-2, -1)), mask_BK.sum(-1)
    if normaliser == "k_choose_2":
        divisor_B = K_B * (K_B - 1) // 2
    elif normaliser == "valid_pairs":
        divisor_B = valid_B
    else:
        raise ValueError(f"unknown normaliser {normaliser!r}: k_choose_2 or valid_pairs")
    losses_of_prompts_B = losses_B / divisor_B.clamp(min=1)

    prompts_B, pairs = K_B > 0, valid_B.sum()
    metrics = {
        "accuracy": (keep(wins(margins_BKK.detach()), pairs_BKK).sum(), pairs),
        "pair_loss": (losses_B.detach().sum(), pairs),
        "all_tied": ((prompts_B & (valid_B == 0)).sum(), prompts_B.sum()),
    }
    if weights_B is None:
        return losses_of_prompts_B.sum(), prompts_B.sum(), metrics
    weights_B = keep(weights_B, prompts_B)
    return (weights_B * losses_of_prompts_B).sum(), weights_B.sum(), metrics


def dpo_loss(
    policy_w_B: Tensor,
    policy_l_B: Tensor,
    ref_w_B: Tensor,
    ref_l_B: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    kind: Literal["dpo", "ipo"] = "dpo",
) -> tuple[Tensor, Tensor, dict[str, SumCount]]:
    """DPO or IPO on summed response log-probs of the preferred (w) and the other (l) completion (section A).

    Metrics: `accuracy` (equal rewards count half) and the implicit rewards `reward_w`, `reward_l`, which are
    beta * (log pi - log pi_ref).
    """
    reward_w_B, reward_l_B = beta * (policy_w_B - ref_w_B), beta * (policy_l_B - ref_l_B)
    margin_B = reward_w_B - reward_l_B
    if kind == "dpo":
        losses_B = -(1 - label_smoothing) * logsigmoid(margin_B) - label_smoothing * logsigmoid(-margin_B)
    elif kind == "ipo":
        if label_smoothing:
            raise ValueError("label smoothing belongs to dpo: set it to 0 for ipo")
        losses_B = (margin_B / beta - 1 / (2 * beta)).square()
    else:
        raise ValueError(f"unknown kind {kind!r}: dpo or ipo")

    count = torch.tensor(margin_B.numel(), device=margin_B.device)
    metrics = {
        "accuracy": (wins(margin_B.detach()).sum(), count),
        "reward_w": (reward_w_B.detach().sum(), count),
        "reward_l": (reward_l_B.detach().sum(), count),
    }
    return losses_B.sum(), count, metrics
