"""Metrics as (sum, count), divided once after all micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from heedful.training.parallel import Ranks

SumAndCount = tuple[Tensor | float, Tensor | float]


class Means:
    """Collects (sum, count) pairs by name. `reduce` gives the means over all of them, the same on every rank."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, SumAndCount]) -> None:
        for name, (total, count) in metrics.items():
            pair = torch.stack([torch.as_tensor(x).detach().double().cpu() for x in (total, count)])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def largest(self, name: str, value: Tensor) -> None:
        value = value.detach().double().cpu()
        self._largest[name] = torch.maximum(self._largest[name], value) if name in self._largest else value

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """The means. A metric that a rank has not seen counts as (0, 0) there. One without any count is left out."""
        parts = ranks.gather((self._sums, self._largest))
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        means: dict[str, float] = {}
        for name in names:
            total, count = torch.stack([sums[name] for sums, _ in parts if name in sums]).sum(0).tolist()
            if count:
                means[name] = total / count
        for name in dict.fromkeys(name for _, largest in parts for name in largest):
            means[name] = max(float(largest[name]) for _, largest in parts if name in largest)
        return means
