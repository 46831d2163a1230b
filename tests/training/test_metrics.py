"""Means over micro-batches and ranks, and what people see while it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from heedful.training.metrics import Means
from heedful.training.parallel import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)


def test_a_mean_is_taken_once_over_all_parts() -> None:
    means = Means()
    means.add({"loss": (torch.tensor(3.0), torch.tensor(1)), "accuracy": (1.0, 2)})
    means.add({"loss": (torch.tensor(3.0), torch.tensor(5))})
    means.largest("ratio_max", torch.tensor(1.5))
    means.largest("ratio_max", torch.tensor(1.25))
    assert means.reduce(ALONE) == {"loss": 1.0, "accuracy": 0.5, "ratio_max": 1.5}  # not (3 + 0.6) / 2


def test_what_was_never_counted_is_left_out() -> None:
    means = Means()
    means.add({"accuracy": (torch.tensor(0.0), torch.tensor(0))})
    assert means.reduce(ALONE) == {}


def test_sums_do_not_lose_small_parts() -> None:
    means = Means()
    means.add({"x": (torch.tensor(2.0**25), 1)})
    for _ in range(100):
        means.add({"x": (torch.tensor(1.0), 0)})
    assert means.reduce(ALONE)["x"] == 2.0**25 + 100


def test_a_metric_carries_no_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    means = Means()
    means.add({"loss": (weight * 2, torch.tensor(1))})
    assert not means._collected()[0]["loss"].requires_grad


def test_ranks_that_saw_different_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 had no text; rank 0 the smaller maximum."""
    other = Means()
    other.add({"loss": (1.0, 3)})
    other.largest("ratio_max", torch.tensor(2.0))
    mine = Means()
    mine.add({"loss": (7.0, 1), "ptx_loss": (8.0, 4)})
    mine.largest("ratio_max", torch.tensor(1.0))

    def both(world: Ranks, mine: Any) -> list[Any]:
        return [mine, other._collected()]

    monkeypatch.setattr(Ranks, "gather", both)
    assert mine.reduce(ALONE) == {"loss": 2.0, "ptx_loss": 2.0, "ratio_max": 2.0}


def test_nothing_waits_for_a_device_before_the_means() -> None:
    """A tensor on the meta device has no value, so whatever asks for one fails."""
    means = Means()
    for _ in range(2):
        means.add({"loss": (torch.ones((), device="meta"), 2), "kl": (1.0, torch.ones((), device="meta"))})
        means.largest("largest", torch.ones((), device="meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        means.reduce(ALONE)
