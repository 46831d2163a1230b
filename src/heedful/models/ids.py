"""Which ids a causal model may give. Many models have more rows than their tokenizer has tokens.

Such rows are padding of the embedding table, or leftovers. heedful never samples them and gives them no probability:
sampling, log-probabilities and losses all use the `Ids` of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

_IDS = "_heedful_ids"


@dataclass(frozen=True)
class Ids:
    """The ids below `end` without `holes` are tokens, of `rows` ids for which the model computes logits."""

    rows: int
    end: int
    holes: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every row is a token, so that nothing is to do."""
        return self.end >= self.rows and not self.holes

    def logits(self, logits_NV: Tensor) -> Tensor:
        """The logits of tokens: cut after the last one, and -inf at holes."""
        if self.end < logits_NV.shape[-1]:
            logits_NV = logits_NV[..., : self.end]
        if self.holes:
            logits_NV = logits_NV.index_fill(-1, torch.tensor(self.holes, device=logits_NV.device), -torch.inf)
        return logits_NV

    def __str__(self) -> str:
        return f"{self.end - len(self.holes)} of {self.rows} rows are tokens. The others are never sampled"


def ids_of(model: Any) -> Ids:
    """The ids of a model. Where no tokenizer was set, all rows are tokens."""
    known: Ids | None = getattr(model, _IDS, None)
    rows = int(model.config.get_text_config().vocab_size)
    return known if known is not None else Ids(rows, rows)


def set_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Allow the ids of the tokenizer alone. Copies of the model inherit this."""
    known = set(tokenizer.get_vocab().values())
    end = max(known, default=-1) + 1
    rows = int(model.config.get_text_config().vocab_size)
    setattr(model, _IDS, Ids(rows, end, tuple(sorted(set(range(end)) - known))))


def described(models: Mapping[str, Any]) -> dict[str, str]:
    """For a manifest: what `Ids` says of each model that has rows without a token."""
    found = {name: ids_of(model) for name, model in models.items() if getattr(model, _IDS, None) is not None}
    return {name: str(ids) for name, ids in found.items() if not ids.whole}
