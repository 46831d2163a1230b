"""Metrics as (sum, count), divided once after all micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from heedful.training.parallel import Ranks

SumAndCount = tuple[Tensor | float, Tensor | float]


class Means:
    """Collects (sum, count) pairs by name. `reduce` gives the means over all of them, the same on every rank.

    What is collected stays on its device until then, so that no micro-batch waits for a GPU.
    """

    def __init__(self) -> None:
        self._sums: dict[str, SumAndCount] = {}
        self._largest: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, SumAndCount]) -> None:
        for name, (total, count) in metrics.items():
            before = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (before[0] + _double(total), before[1] + _double(count))

    def largest(self, name: str, value: Tensor) -> None:
        value = value.detach()
        self._largest[name] = torch.maximum(self._largest[name], value) if name in self._largest else value

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """The means. A metric that a rank has not seen counts as (0, 0) there. One without any count is left out."""
        parts = ranks.gather(self._collected())
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        means: dict[str, float] = {}
        for name in names:
            total, count = torch.stack([sums[name] for sums, _ in parts if name in sums]).sum(0).tolist()
            if count:
                means[name] = total / count
        for name in dict.fromkeys(name for _, largest in parts for name in largest):
            means[name] = max(float(largest[name]) for _, largest in parts if name in largest)
        return means

    def _collected(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        sums = {
            name: torch.tensor([float(one) for one in pair], dtype=torch.float64) for name, pair in self._sums.items()
        }
        return sums, {name: value.cpu().double() for name, value in self._largest.items()}


def _double(value: Tensor | float) -> Tensor | float:
    if not isinstance(value, Tensor):
        return float(value)
    value = value.detach()
    return value.cpu().double() if value.device.type == "mps" else value.double()  # MPS has no float64
