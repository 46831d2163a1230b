"""Adam, learning-rate schedules by name, gradient clipping, weight averaging."""

from __future__ import annotations

import copy

import torch
from torch import nn

from heedful.config import NonFinite
from heedful.configs.shared import Optimiser
from heedful.maths import schedules


def adam(model: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """Torch's Adam over the trainable parameters. Weight decay is decoupled and acts on matrices only."""
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
    """Learning rate at 0-based `step` of `total`. `first` is where warm-up begins, as a share of the peak."""
    if settings.schedule == "cosine":
        return schedules.cosine(step, total, settings.lr, warmup=settings.warmup, first=first)
    if settings.schedule == "linear":
        return schedules.linear(step, total, settings.lr, warmup=settings.warmup, first=first)
    if settings.schedule == "stable":
        return schedules.stable(step, total, settings.lr, settings.decay, warmup=settings.warmup, first=first)
    return schedules.warmup_constant(step, settings.lr, settings.warmup)


def step(model: nn.Module, optimiser: torch.optim.Optimizer, settings: Optimiser, lr: float, name: str = "") -> float:
    """Update the weights with their gradients, and clear these. Returns the norm of the gradients.

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
        frozen = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.model = copy.deepcopy(model, frozen).requires_grad_(False).eval() if decay else model
        averages = dict(self.model.named_parameters())
        self.weights = {name: averages[name] for name in trained}
        """Of the average, what is trained. The rest are the tensors of the model itself."""
        self._pairs = [(self.weights[name], weight) for name, weight in trained.items()] if decay else []

    def update(self) -> None:
        with torch.no_grad():
            for average, weight in self._pairs:
                schedules.ema_update(average, weight, self.decay)
