"""Generalised advantage estimation and whitening. Letters, alignment, masks: docs/conventions.md."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heedful.maths.masks import keep


@torch.no_grad()
def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """(advantages_BT, returns_BT) by the backward recursion (P12); the value after the last real token is 0.

    Advantages are not whitened; returns = advantages + values. Padding is 0 in both.
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
def whiten(
    x_BT: Tensor,
    mask_BT: Tensor,
    *,
    shift_mean: bool = True,
    unbiased: bool = False,
    all_reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) with mean and variance over real positions; padding is 0 (P13).

    `shift_mean=False` adds the mean back (rewards, P11). `unbiased` is the sample variance (Bessel) instead of the
    population's. `all_reduce` returns the sum of a tensor over ranks, which makes the statistics global.
    """
    reduce = all_reduce or (lambda tensor: tensor)
    x_BT = keep(x_BT, mask_BT)
    total, count = reduce(torch.stack([x_BT.sum(), mask_BT.sum().to(x_BT.dtype)]))
    mean = total / count.clamp(min=1)
    centred_BT = keep(x_BT - mean, mask_BT)
    divisor = count - 1 if unbiased else count
    variance = reduce(centred_BT.square().sum()) / divisor.clamp(min=1)
    whitened_BT = centred_BT * torch.rsqrt(variance + 1e-8)
    return whitened_BT if shift_mean else keep(whitened_BT + mean, mask_BT)
