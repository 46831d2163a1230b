"""KL estimators, the shaped reward and the KL coefficient. Letters, alignment, masks: docs/conventions.md."""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths.masks import keep


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi - log pi_ref: unbiased for KL(pi || pi_ref) under samples of pi; may be negative (P9)."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio: biased, low variance (P9)."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(-d) - 1 + d with d = log pi - log pi_ref: unbiased and never negative (P9)."""
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def sequence_kl(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """kl_B in nats: `k1` summed over the real tokens of each row (P9).

    Its mean over samples of the policy estimates KL(policy || reference) of whole answers.
    """
    return keep(k1(logprobs_BT, ref_logprobs_BT), mask_BT).sum(-1)


def shaped_rewards(
    scores_B: Tensor, logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> tuple[Tensor, Tensor]:
    """(rewards_BT, kl_BT): -kl_coef * k1 at every real token plus the score at the last one (P8). Padding is 0.

    Each row's mask is a non-empty prefix. A row of `kl_BT` sums to its sequence KL in nats, a row of `rewards_BT` to
    score - kl_coef * KL.
    """
    lengths_B = mask_BT.sum(-1)
    assert bool((lengths_B > 0).all()), "a response has at least one token"
    kl_BT = keep(k1(logprobs_BT, ref_logprobs_BT), mask_BT)
    steps_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    scores_BT = keep(scores_B[:, None], steps_T == lengths_B[:, None] - 1)
    return scores_BT - kl_coef * kl_BT, kl_BT


def adapt_kl_coef(kl_coef: float, kl: float, target: float, horizon: float, episodes: int) -> float:
    """Next KL coefficient (P10): kl_coef * (1 + error * episodes / horizon), error = clip(kl / target - 1, -0.2, 0.2).

    `kl` is the mean over sequences of the summed k1 in nats, `episodes` the number since the last update.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * episodes / horizon)
