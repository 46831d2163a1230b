"""Cross-entropy of given responses, and of documents as responses to their first token: what pretraining, SFT, the
pretraining gradient of PPO-ptx and every held-out loss share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from heedful.configs.shared import Compute
from heedful.learning.examples import Example
from heedful.models import batches, scoring
from heedful.training.metrics import Means
from heedful.training.parallel import Ranks


def losses(
    model: Any, rows: list[Example], pad_id: int, compute: Compute, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor]]:
    """(sum, count) over response tokens, in nats, of each of this rank's micro-batches; every row stands alone."""
    for chosen in ranks.share(scoring.passes(model, [len(row) for row in rows], compute.micro_tokens, ranks.size)):
        batch = batches.collate([rows[i].prompt_ids for i in chosen], [rows[i].response_ids for i in chosen], pad_id)
        batch = batch.to(ranks.device)
        with ranks.autocast():
            total = scoring.response_loss(model, batch)
        yield total, batch.response_mask_BT.sum()


def targets(rows: list[Example]) -> int:
    """Tokens that count."""
    return sum(len(row.response_ids) for row in rows)


@torch.no_grad()
def mean_loss(model: Any, rows: list[Example], pad_id: int, compute: Compute, ranks: Ranks) -> float:
    """Mean cross-entropy in nats a response token."""
    model.eval()
    means = Means()
    for pair in losses(model, rows, pad_id, compute, ranks):
        means.add({"loss": pair})
    return means.reduce(ranks)["loss"]
