"""Learning rates as functions of the step, and the moving average of weights. No schedule keeps a state."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine(step: int, total: int, peak: float, floor: float = 0.1, warmup: int = 0, first: float = 0.0) -> float:
    """Cosine schedule: warmup, then half a cosine from `peak` at step `warmup` to floor * peak at `total` (S1).

    The warmup is a straight line from first * peak at step 0. After `total` the rate stays.
    """
    if step < warmup:
        return peak * (first + (1 - first) * step / warmup)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def linear(step: int, total: int, peak: float, floor: float = 0.0, warmup: int = 0, first: float = 0.0) -> float:
    """Linear schedule: warmup, then a straight line from `peak` at step `warmup` to floor * peak at `total`.

    The warmup is a straight line from first * peak at step 0. After `total` the rate stays.
    """
    if step < warmup:
        return peak * (first + (1 - first) * step / warmup)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return peak * (1 - (1 - floor) * progress)


def stable(step: int, total: int, peak: float, decay: float = 0.25, warmup: int = 0, first: float = 0.0) -> float:
    """Warmup-stable-decay schedule (MiniCPM, arXiv 2404.06395): `peak` up to the last share `decay`, then down to 0.

    Warmup and decay are straight lines. The warmup starts from first * peak at step 0.
    """
    start = total - round(decay * total)
    if step <= start:
        return linear(step, total, peak, floor=1.0, warmup=warmup, first=first)
    return peak * max(total - step, 0) / (total - start)


def warmup_constant(iteration: int, peak: float, warmup: int = 10) -> float:
    """Constant schedule with warmup: a straight line from a tenth of `peak` at iteration 0, then `peak` (P20)."""
    return peak * (0.1 + 0.9 * min(iteration / warmup, 1.0)) if warmup else peak


@torch.no_grad()
def ema_update(ema: Tensor, weight: Tensor, decay: float) -> None:
    """Update a moving average in place: ema = decay * ema + (1 - decay) * weight (P20). Keep `ema` in float32.

    A bfloat16 average would round such small steps away.
    """
    ema.lerp_(weight.to(ema.dtype), 1 - decay)
