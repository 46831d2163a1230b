"""Advantages: GAE, leave one out, group relative, whitening. Letters and masks: docs/conventions.md."""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths.masks import keep


@torch.no_grad()
def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation: (advantages_BT, returns_BT), computed backwards in time (P12).

    delta_t = r_t + gamma * V_(t+1) - V_t and A_t = delta_t + gamma * lam * A_(t+1). The value after the last real token
    is 0. Advantages are not whitened. Returns are advantages + values. Padding is 0 in both.
    Source: Schulman et al. 2016, equation 16.

    Three tokens, reward 1 at the last one, all values 0.5. The deltas are 0, 0, 0.5:

    >>> rewards_BT, values_BT = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.5, 0.5]])
    >>> advantages_BT, returns_BT = gae(rewards_BT, values_BT, rewards_BT >= 0, gamma=1.0, lam=0.5)
    >>> advantages_BT.tolist(), returns_BT.tolist()
    ([[0.125, 0.25, 0.5]], [[0.625, 0.75, 1.0]])
    """
    rewards_BT, values_BT = keep(rewards_BT, mask_BT), keep(values_BT, mask_BT)
    deltas_BT = rewards_BT - values_BT
    deltas_BT[:, :-1] += gamma * values_BT[:, 1:]
    advantage_B = torch.zeros_like(deltas_BT[:, 0])
    backwards = []
    for delta_B in reversed(deltas_BT.unbind(1)):
        advantage_B = delta_B + gamma * lam * advantage_B
        backwards.append(advantage_B)
    advantages_BT = torch.stack(backwards[::-1], dim=1)
    return advantages_BT, advantages_BT + values_BT


@torch.no_grad()
def leave_one_out(rewards_GK: Tensor) -> Tensor:
    """Advantages of K samples in each of G groups: each reward minus the mean of the others in its group (RLOO).

    >>> leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist()  # 1 - 4, 2 - 3.5, 6 - 1.5
    [[-3.0, -1.5, 4.5]]
    """
    K = rewards_GK.shape[1]
    assert K > 1, "the baseline is the mean of the other samples"
    baseline_GK = (rewards_GK.sum(1, keepdim=True) - rewards_GK) / (K - 1)
    return rewards_GK - baseline_GK


@torch.no_grad()
def group_relative(rewards_GK: Tensor, *, scale: bool = True, eps: float = 1e-4) -> Tensor:
    """Advantages of K samples in each of G groups: (reward - mean) / (std + eps) of its group (GRPO).

    The standard deviation is the sample's (Bessel). `scale=False` only subtracts the mean (Dr. GRPO).

    >>> group_relative(torch.tensor([[1.0, 2.0, 6.0]]), scale=False).tolist()
    [[-2.0, -1.0, 3.0]]
    """
    assert rewards_GK.shape[1] > 1, "one sample has no standard deviation"
    centred_GK = rewards_GK - rewards_GK.mean(1, keepdim=True)
    return centred_GK / (rewards_GK.std(1, keepdim=True) + eps) if scale else centred_GK


@torch.no_grad()
def whiten(x_BT: Tensor, mask_BT: Tensor, *, shift_mean: bool = True, unbiased: bool = False) -> Tensor:
    """Whiten x over its real positions: (x - mean) / sqrt(var + 1e-8), with 0 at padding (P13).

    `shift_mean=False` adds the mean back, for rewards (P11). `unbiased` divides the variance by n - 1 instead of n.
    Every rank holds the whole batch, so mean and variance are global.

    >>> x_BT = torch.tensor([[1.0, 3.0, 99.0]])
    >>> whiten(x_BT, x_BT < 9).tolist()
    [[-1.0, 1.0, 0.0]]
    """
    x_BT = keep(x_BT, mask_BT)
    count = mask_BT.sum().to(x_BT.dtype)
    mean = x_BT.sum() / count.clamp(min=1)
    centred_BT = keep(x_BT - mean, mask_BT)
    divisor = count - 1 if unbiased else count
    variance = centred_BT.square().sum() / divisor.clamp(min=1)
    whitened_BT = centred_BT * torch.rsqrt(variance + 1e-8)
    return whitened_BT if shift_mean else keep(whitened_BT + mean, mask_BT)
