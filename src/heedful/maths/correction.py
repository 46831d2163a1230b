"""Samples of one policy, learned from by another: truncated importance weights, and how far the two are apart.

Three policies: the sampler mu, the old policy pi_old that PPO's ratio starts from, and the one that learns. The loss is
that of pi_old. Its terms are weighted with pi_old / mu, cut at a cap. Letters: docs/conventions.md.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from heedful.maths.kl import k3
from heedful.maths.masks import keep

CorrectionLevel = Literal["token", "sequence"]


def truncated_weights(
    old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, mask_BT: Tensor, cap: float, level: CorrectionLevel
) -> Tensor:
    """weights_BT = min(pi_old / mu, cap) at real tokens, without a gradient. Padding is 0.

    "token": the ratio of each token. "sequence": that of the whole answer, at each of its tokens. Sources: Espeholt et
    al. 2018 (IMPALA), and Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".

    Two tokens, 3 times and half as likely as when they were sampled:

    >>> import torch
    >>> old_BT, mask_BT = torch.tensor([[3.0, 0.5]]).log(), torch.ones(1, 2, dtype=torch.bool)
    >>> [[round(x, 4) for x in truncated_weights(old_BT, old_BT * 0, mask_BT, 2.0, level)[0].tolist()]
    ...  for level in ("token", "sequence")]
    [[2.0, 0.5], [1.5, 1.5]]
    """
    log_ratio_BT = _log_ratio(old_logprobs_BT, sampler_logprobs_BT, mask_BT)
    if level == "sequence":
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    return keep(log_ratio_BT.exp().clamp(max=cap), mask_BT)


def mismatch(
    old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, mask_BT: Tensor, cap: float, level: CorrectionLevel
) -> dict[str, float]:
    """How far the sampler is from the old policy.

    `difference`: mean |log pi_old - log mu| of a token. `kl`: k3 of KL(mu || pi_old), in nats a token. `capped`: share
    of the weights that the cap cuts. `effective`: effective sample size (sum w)^2 / sum w^2 as a share of their number.
    The last two are over tokens or, with "sequence", over answers.
    """
    log_ratio_BT = _log_ratio(old_logprobs_BT, sampler_logprobs_BT, mask_BT)
    kl_BT = k3(keep(sampler_logprobs_BT, mask_BT), keep(old_logprobs_BT, mask_BT))
    log_ratio_N = log_ratio_BT[mask_BT] if level == "token" else log_ratio_BT.sum(-1)
    weights_N = log_ratio_N.double().exp().clamp(max=cap)
    return {
        "difference": float(log_ratio_BT[mask_BT].abs().mean()),
        "kl": float(kl_BT[mask_BT].mean()),
        "capped": float((log_ratio_N.double().exp() > cap).double().mean()),
        "effective": float(weights_N.sum() ** 2 / (weights_N.square().sum() * weights_N.numel())),
    }


def _log_ratio(old_logprobs_BT: Tensor, sampler_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return keep(old_logprobs_BT - sampler_logprobs_BT, mask_BT).detach()
