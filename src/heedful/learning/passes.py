"""Forward passes over rows of tokens: cut to a size, padded, shared by the ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedful.config import NonFinite
from heedful.learning.examples import Example, Ranked
from heedful.models import batches, scoring
from heedful.models.batches import Batch
from heedful.planning.job import StepShape
from heedful.rollout.types import Episode
from heedful.training.parallel import Ranks

TokenRow = Example | Episode  # a prompt and a response as token ids


@dataclass(frozen=True)
class Passes:
    """How forward passes are made: at most `micro_tokens` tokens each, shared by `ranks`.

    `pad_id`: what a row is padded with (None: any id, as no result depends on it).
    """

    pad_id: int | None
    micro_tokens: int
    ranks: Ranks

    def cut(self, model: Any, rows: Sequence[TokenRow]) -> list[list[int]]:
        """The passes of all ranks, as indices of rows."""
        return scoring.passes(model, total_lengths(rows), self.micro_tokens, self.ranks.size)

    def batch(self, rows: Sequence[TokenRow]) -> Batch:
        """The rows as one batch on this rank's device."""
        learned = [row.learned if isinstance(row, Example) else None for row in rows]
        batch = batches.collate(
            [row.prompt_ids for row in rows], [row.response_ids for row in rows], self.pad_id, learned
        )
        return batch.to(self.ranks.device)

    @torch.no_grad()
    def over(self, model: Any, rows: Sequence[TokenRow], compute: Callable[[Any, Batch], Tensor], name: str) -> Tensor:
        """Return compute(model, batch) of all rows as one [B T] tensor in float32 on the CPU, on every rank.

        Raises NonFinite with `name` for a NaN or an infinity.
        """

        def computed(chosen: list[int]) -> tuple[list[int], Tensor]:
            batch = self.batch([rows[i] for i in chosen])
            with self.ranks.autocast():
                return chosen, compute(model, batch).float().cpu()

        out_BT = torch.zeros(len(rows), max(len(row.response_ids) for row in rows))
        for chosen, values_bt in self.ranks.each_pass(self.cut(model, rows), computed):
            out_BT[chosen, : values_bt.shape[1]] = values_bt
        if not torch.isfinite(out_BT).all():
            raise NonFinite(name)
        return out_BT


def total_lengths(rows: Sequence[TokenRow]) -> list[int]:
    """Tokens of prompt and response together."""
    return [len(row.prompt_ids) + len(row.response_ids) for row in rows]


def step_shape(rows: Sequence[TokenRow], batch: int, **more: Any) -> StepShape:
    """What a step of `batch` rows is to the memory plan. `more`: its other fields."""
    longest = max(total_lengths(rows))
    return StepShape(step=batch * longest, longest=longest, **more)


def ranking_shape(rankings: Sequence[Ranked], batch: int) -> StepShape:
    """The same for `batch` rankings, each with all its responses. A pass takes whole rankings."""
    answers = max(len(row.responses) for row in rankings)
    whole = max(sum(total_lengths(row.examples)) for row in rankings)
    return step_shape([example for row in rankings for example in row.examples], batch * answers, whole=whole)
