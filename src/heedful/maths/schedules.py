"""Learning rates as functions of the step, and the moving average of weights. Conventions: docs/conventions.md."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine(step: int, total: int, peak: float, floor: float = 0.1, warmup: int = 0, first: float = 0.0) -> float:
    """Linear warmup from first * peak, then half a cosine from `peak` at `warmup` to floor * peak at `total`, then flat
    (S1).
    """
    if step < warmup:
        return peak * (first + (1 - first) * step / warmup)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def linear(step: int, total: int, peak: float, floor: float = 0.0, warmup: int = 0, first: float = 0.0) -> float:
    """Linear warmup from first * peak, then a straight line from `peak` at step `warmup` to floor * peak at `total`,
    then flat.
    """
    if step < warmup:
        return peak * (first + (1 - first) * step / warmup)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return peak * (1 - (1 - floor) * progress)


def warmup_constant(iteration: int, peak: float, warmup: int = 10) -> float:
    """From a tenth of `peak` at iteration 0 in a straight line to `peak` at `warmup`, then constant (P20)."""
    return peak * (0.1 + 0.9 * min(iteration / warmup, 1.0)) if warmup else peak


@torch.no_grad()
def ema_update(ema: Tensor, weight: Tensor, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * weight, in place (P20). Keep `ema` in float32: bf16 loses such steps."""
    ema.lerp_(weight.to(ema.dtype), 1 - decay)
