"""Losses and their metrics, each as (sum, count). Letters, masks, sums and counts: docs/conventions.md.

The training step takes the mean once, over all micro-batches and ranks (P14). Only the sum of a loss carries a
gradient. Metrics are detached.
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
LossType = Literal["grpo", "bnpo", "dr_grpo"]


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip: float,
    weights_B: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, SumCount | Tensor]]:
    """PPO's clipped loss over real tokens: max(-A * ratio, -A * clip(ratio, 1 - clip, 1 + clip)) (P14).

    The ratio is pi / pi_old of a token. Returns (sum, count, metrics). Metrics as (sum, count): `clipfrac`, `ratio`,
    and `approx_kl_k1`, `approx_kl` (k2), `approx_kl_k3` of KL(old || new) in nats. `ratio_max` is a plain tensor:
    combine it by maximum. `weights_B` multiplies the tokens of each row in the sum, not in the count. Source: Schulman
    et al. 2017, equation 7.

    Both tokens have become 1.5 times as likely. The gain of the good token ends at 1.2, the loss of the bad one counts
    in full:

    >>> ratio_BT, advantages_BT = torch.tensor([[1.5, 1.5]]), torch.tensor([[1.0, -1.0]])
    >>> loss, count, metrics = policy_loss(ratio_BT.log(), torch.zeros(1, 2), advantages_BT, ratio_BT > 0, clip=0.2)
    >>> round(loss.item(), 4), count.item()  # -1.2 + 1.5
    (0.3, 2)
    >>> [value.item() for value in metrics["clipfrac"]]
    [1, 2]
    """
    log_ratio_BT = keep(logprobs_BT - old_logprobs_BT, mask_BT)
    advantages_BT = keep(advantages_BT, mask_BT)
    ratio_BT = log_ratio_BT.exp()
    unclipped_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip, 1 + clip)
    losses_BT = keep(torch.maximum(unclipped_BT, clipped_BT), mask_BT)
    loss = losses_BT.sum() if weights_B is None else (weights_B[:, None] * losses_BT).sum()

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


def rloo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    clip: float,
    kl_coef: float = 0.0,
) -> tuple[Tensor, Tensor, dict[str, SumCount | Tensor]]:
    """RLOO's clipped loss: `policy_loss` with a whole response as one action, whose ratio is that of its probabilities.

    `kl_coef` adds the summed k3 of each response: a KL penalty in the loss. Returns (sum, count, metrics). Count and
    metrics of `policy_loss` are over responses, the metric `kl_k3` is over tokens. Source: Ahmadian et al. 2024, with
    the clipping of TRL.
    """
    new_B1, old_B1 = (keep(x_BT, mask_BT).sum(-1, keepdim=True) for x_BT in (logprobs_BT, old_logprobs_BT))
    whole_B1 = mask_BT.any(-1, keepdim=True)
    loss, count, metrics = policy_loss(new_B1, old_B1, advantages_B[:, None], whole_B1, clip)
    kl_BT = _k3(logprobs_BT, ref_logprobs_BT, mask_BT)
    return loss + kl_coef * kl_BT.sum(), count, metrics | {"kl_k3": (kl_BT.detach().sum(), mask_BT.sum())}


def grpo_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip: float,
    kl_coef: float,
    loss_type: LossType,
    longest: int,
) -> tuple[Tensor, Tensor, dict[str, SumCount | Tensor]]:
    """GRPO's clipped loss: `policy_loss` plus kl_coef * k3 at every token. The count is that of `grpo_count`.

    `loss_type`: "grpo" is the mean over the tokens of each response, then over responses. "bnpo" is the mean over all
    tokens. "dr_grpo" divides the sum by the number of responses and by `longest`, the most tokens of a response.
    Sources: Shao et al. 2024, equation 3, and Liu et al. 2025 (Dr. GRPO).
    """
    kl_BT = _k3(logprobs_BT, ref_logprobs_BT, mask_BT)
    weights_B = 1 / mask_BT.sum(-1).clamp(min=1).to(kl_BT.dtype) if loss_type == "grpo" else None
    loss, _, metrics = policy_loss(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip, weights_B)
    penalty = (kl_BT if weights_B is None else weights_B[:, None] * kl_BT).sum()
    metrics["kl_k3"] = (kl_BT.detach().sum(), mask_BT.sum())
    return loss + kl_coef * penalty, grpo_count(mask_BT, loss_type, longest), metrics


def grpo_count(mask_BT: Tensor, loss_type: LossType, longest: int) -> Tensor:
    """The divisor of the sum of `grpo_loss`. The counts of the parts of a batch add up to that of the batch.

    >>> mask_BT = torch.tensor([[True, True, True], [True, False, False]])
    >>> [int(grpo_count(mask_BT, loss_type, longest=5)) for loss_type in ("grpo", "bnpo", "dr_grpo")]
    [2, 4, 10]
    """
    responses = mask_BT.any(-1).sum()
    return {"grpo": responses, "bnpo": mask_BT.sum(), "dr_grpo": responses * longest}[loss_type]


def _k3(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """k3 at real tokens. What padding holds cannot reach the gradient."""
    log_ratio_BT = keep(logprobs_BT - ref_logprobs_BT, mask_BT)
    return k3(log_ratio_BT, torch.zeros_like(log_ratio_BT))


def value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, clip: float
) -> tuple[Tensor, Tensor, dict[str, SumCount]]:
    """Value loss over real tokens: half the larger of the plain and the clipped squared error (P15).

    The clipped error uses the value closest to the new one within `clip` of the old one. `clip` = inf turns it off.
    Returns (sum, count, metrics). Metrics: `clipfrac`, and `error` = returns - values, `error_squared`, `returns`,
    `returns_squared`, whose means `explained_variance` takes. Source: Ziegler et al. 2019, their code.
    """
    values_BT, old_values_BT = keep(values_BT, mask_BT), keep(old_values_BT, mask_BT)
    returns_BT = keep(returns_BT, mask_BT)
    # Clamp between bounds. Old value + clamped difference would differ by rounding, which would count as clipping.
    near_old_BT = values_BT.clamp(old_values_BT - clip, old_values_BT + clip)
    plain_BT = (values_BT - returns_BT).square()
    clipped_BT = (near_old_BT - returns_BT).square()
    loss = 0.5 * torch.maximum(plain_BT, clipped_BT).sum()

    count = mask_BT.sum()
    # In float64: with an offset the variance is the small difference of two large sums.
    wide_BT = returns_BT.detach().double()
    error_BT = wide_BT - values_BT.detach().double()
    metrics = {
        "clipfrac": ((clipped_BT > plain_BT).sum(), count),
        "error": (error_BT.sum(), count),
        "error_squared": (error_BT.square().sum(), count),
        "returns": (wide_BT.sum(), count),
        "returns_squared": (wide_BT.square().sum(), count),
    }
    return loss, count, metrics


def explained_variance(means: Mapping[str, float]) -> float:
    """Explained variance 1 - Var(returns - values) / Var(returns), from the means of the metrics of `value_loss`.

    1 for perfect values, 0 for values that know only the mean return, NaN if the returns do not vary.
    """
    variance = means["returns_squared"] - means["returns"] ** 2
    unexplained = means["error_squared"] - means["error"] ** 2
    return 1.0 - unexplained / variance if variance > 0 else float("nan")


def ranking_loss(
    rewards_BK: Tensor,
    ranks_BK: Tensor,
    mask_BK: Tensor,
    normaliser: Literal["k_choose_2", "valid_pairs"] = "k_choose_2",
    weights_B: Tensor | None = None,
    firsts_BK: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, SumCount]]:
    """Ranking loss of a reward model: -log sigmoid(r_w - r_l) over the pairs of each prompt (R2, R3).

    B prompts with up to K completions each. The smaller rank is better (w). Tied pairs are dropped, and so are pairs
    of equal completions: `firsts_BK` holds for each the first one that equals it. The sum over the
    pairs of a prompt is divided by all K * (K - 1) / 2 pairs (`k_choose_2`) or by those without a tie (`valid_pairs`).
    Returns (sum, count, metrics). The count is of prompts, including all-tied ones with loss 0. With `weights_B` it is
    the sum of their weights, so that sum / count is the weighted mean. Metrics: `accuracy` (equal rewards count half)
    and `pair_loss` over pairs, `all_tied` over prompts. Source: Ouyang et al. 2022, equation 1.

    One prompt, three completions, the last two tie. Both pairs have margin 1 and loss -log sigmoid(1) = 0.3133:

    >>> rewards_BK, ranks_BK = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0, 1, 1]])
    >>> loss, count, metrics = ranking_loss(rewards_BK, ranks_BK, ranks_BK >= 0)
    >>> round(loss.item(), 4), count.item()  # 2 * 0.3133 / 3
    (0.2088, 1)
    >>> round(ranking_loss(rewards_BK, ranks_BK, ranks_BK >= 0, "valid_pairs")[0].item(), 4)
    0.3133
    """
    rewards_BK = keep(rewards_BK, mask_BK)
    # 1) pairs_BKK[b, w, l] is True where completion w is ranked above l. Margins have the same places.
    pairs_BKK = (ranks_BK[:, :, None] < ranks_BK[:, None, :]) & mask_BK[:, :, None] & mask_BK[:, None, :]
    if firsts_BK is not None:
        pairs_BKK &= firsts_BK[:, :, None] != firsts_BK[:, None, :]
    margins_BKK = rewards_BK[:, :, None] - rewards_BK[:, None, :]
    losses_B = keep(-logsigmoid(margins_BKK), pairs_BKK).sum((-2, -1))

    # 2) Divide each prompt's sum by its number of pairs.
    valid_B, K_B = pairs_BKK.sum((-2, -1)), mask_BK.sum(-1)
    divisor_B = K_B * (K_B - 1) // 2 if normaliser == "k_choose_2" else valid_B
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
    """DPO or IPO loss from summed response log-probs of the preferred (w) and the other (l) completion.

    The implicit reward of a completion is beta * (log pi - log pi_ref). DPO takes -log sigmoid of the margin, IPO pulls
    the difference of log-ratios to 1 / (2 * beta). Returns (sum, count, metrics). Metrics: `accuracy` (equal rewards
    count half), `reward_w`, `reward_l`. Sources: Rafailov et al. 2023, equation 7, and Azar et al. 2023.
    """
    reward_w_B, reward_l_B = beta * (policy_w_B - ref_w_B), beta * (policy_l_B - ref_l_B)
    margin_B = reward_w_B - reward_l_B
    if kind == "dpo":
        losses_B = -(1 - label_smoothing) * logsigmoid(margin_B) - label_smoothing * logsigmoid(-margin_B)
    else:
        assert not label_smoothing, "label smoothing belongs to dpo"
        losses_B = (margin_B / beta - 1 / (2 * beta)).square()

    count = torch.tensor(margin_B.numel(), device=margin_B.device)
    metrics = {
        "accuracy": (wins(margin_B.detach()).sum(), count),
        "reward_w": (reward_w_B.detach().sum(), count),
        "reward_l": (reward_l_B.detach().sum(), count),
    }
    return losses_B.sum(), count, metrics
