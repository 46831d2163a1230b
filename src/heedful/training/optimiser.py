"""Adam, learning-rate schedules by name, gradient clipping, weight averaging."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from heedful.config import Config, NonFinite
from heedful.maths import schedules


class Optimiser(Config):
    """Adam as the paper ran it (S1, R4, P19): beta = (0.9, 0.95); epsilon, decay and clipping are silent there."""

    lr: float = Field(ge=0)
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    """Steps (iterations in PPO) until the peak, in a straight line: from 0, in PPO and before a constant rate from a
    tenth of it.
    """
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest gradient norm; 0 turns clipping off."""


def adam(model: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """Torch's Adam (decoupled decay where there is any, on matrices only) over the trainable parameters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


def learning_rate(settings: Optimiser, step: int, total: int, first: float = 0.0) -> float:
    """Rate at 0-based `step` of `total`; `first`: where warm-up begins, as a share of the peak."""
    if settings.schedule == "cosine":
        return schedules.cosine(step, total, settings.lr, warmup=settings.warmup, first=first)
    if settings.schedule == "linear":
        return schedules.linear(step, total, settings.lr, warmup=settings.warmup, first=first)
    return schedules.warmup_constant(step, settings.lr, settings.warmup)


def step(model: nn.Module, optimiser: torch.optim.Optimizer, settings: Optimiser, lr: float, name: str = "") -> float:
    """One update with the gradients in place; clears them; returns their norm.

    Raises NonFinite before any weight has changed.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if not torch.isfinite(norm):
        raise NonFinite(f"gradient of {name}{_first_bad(model)}")
    if settings.clip_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), settings.clip_norm, norm)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(norm)


def _first_bad(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return name
    return "the model (its norm overflows)"


class Average:
    """Exponential moving average of a model's weights (P20): `average.model` is the averaged copy, with decay 0 the
    model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval() if decay else model
        self._pairs = list(zip(self.model.parameters(), model.parameters(), strict=True)) if decay else []

    def update(self) -> None:
        with torch.no_grad():
            for average, weight in self._pairs:
                schedules.ema_update(average, weight, self.decay)
