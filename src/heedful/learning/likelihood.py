"""Cross-entropy of given responses, and of documents as responses to their first token.

Pretraining, SFT, the pretraining gradient of PPO-ptx and every held-out loss share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from heedful.learning.examples import Example
from heedful.learning.passes import Passes
from heedful.models import scoring
from heedful.training.metrics import Means


def losses(model: Any, rows: list[Example], passes: Passes) -> Iterator[tuple[Tensor, Tensor]]:
    """(sum, count) over the response tokens to learn from, in nats, of each of this rank's passes.

    Every row is read alone.
    """
    for chosen, counts in passes.ranks.deal(passes.cut(model, rows)):
        batch = passes.batch([rows[i] for i in chosen])
        with passes.ranks.autocast():
            total = scoring.response_loss(model, batch)
        yield total * counts, batch.learned_mask_BT.sum() * counts


def add_gradients(
    model: Any, rows: list[Example], passes: Passes, means: Means, name: str, *, weight: float = 1.0
) -> None:
    """Add `weight` x the gradient of the mean loss over the response tokens of all ranks. `name`: of the loss."""
    count = sum(row.count for row in rows)
    for total, real in losses(model, rows, passes):
        passes.ranks.backward(weight * total / count, model)
        means.add({name: (total, real)})


@torch.no_grad()
def mean_loss(model: Any, rows: list[Example], passes: Passes) -> float:
    """Mean cross-entropy in nats a response token."""
    model.eval()
    means = Means()
    for pair in losses(model, rows, passes):
        means.add({"loss": pair})
    return means.reduce(passes.ranks)["loss"]
