"""Adam, learning-rate schedules by name, gradient clipping, weight averaging."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn

from heedful.config import NonFinite
from heedful.configs.shared import Optimiser
from heedful.fast.api import choose_like
from heedful.maths import schedules
from heedful.models import shards


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
    gradients = [shards.local(p.grad) for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if shards.is_sharded(model):
        norm = _over_shards(norm, model)
    if not torch.isfinite(norm):
        raise NonFinite(f"gradient of {name}{_first_bad(model)}")
    if settings.clip_norm > 0:
        factor = (settings.clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as in torch
        for gradient in gradients:
            gradient.mul_(factor)
    for group in optimiser.param_groups:
        group["lr"] = lr
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(norm)


def _over_shards(norm: Tensor, model: nn.Module) -> Tensor:
    """The norm over all ranks, from that of this rank's shards."""
    squared = norm.double() ** 2
    dist.all_reduce(squared, group=shards.shards_of(model).group)
    return squared.sqrt().to(norm.dtype)


def _first_bad(model: nn.Module) -> str:
    bad = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(shards.local(parameter.grad)).all()
    ]
    if shards.is_sharded(model):
        parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, bad)
        bad = [name for part in parts for name in part]
    return bad[0] if bad else "the model (its norm overflows)"


class Average:
    """Exponential moving average of a model's weights (P20).

    `average.model` is the averaged copy. With decay 0 it is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        frozen = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.model = _copy(model, frozen).requires_grad_(False).eval() if decay else model
        averages = dict(self.model.named_parameters())
        self.weights = {name: averages[name] for name in trained}
        """Of the average, what is trained. The rest are the tensors of the model itself."""
        self._pairs = [(self.weights[name], weight) for name, weight in trained.items()] if decay else []

    def update(self) -> None:
        with torch.no_grad():
            for average, weight in self._pairs:
                schedules.ema_update(average, weight, self.decay)


def _copy(model: nn.Module, shared: dict[int, nn.Parameter]) -> nn.Module:
    """A copy with the same `shared` tensors. Shards belong to one model, so that of a sharded one has its own."""
    if not shards.is_sharded(model):
        return copy.deepcopy(model, dict(shared))
    made: nn.Module = shards.twin(model)
    choose_like(made, model)
    return made
