"""Next-token logits of many rows at once, step after step, through any Hugging Face causal LM."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from heedful.fast import forward
from heedful.maths.masks import position_ids
from heedful.models.batches import left_pad, micro_batches, right_pad
from heedful.models.scoring import head_is_exact
from heedful.rollout.cache import RowCache, compaction
from heedful.rollout.fused import PREFILL_TOKENS, FusedDecoder, is_llama

_log = logging.getLogger(__name__)


class Decoder(Protocol):
    """Rows in flight, kept dense: new ones go to the end, and the last ones fill the gaps of those removed."""

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Start rows: logits_NV of the first token of each. Longest first, within a call and from call to call."""
        ...

    def step(self, tokens_N: Tensor) -> Tensor:
        """Append one token to every row: logits_NV of the next."""
        ...

    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop rows: the former index of each row that remains (see `cache.compaction`)."""
        ...


Kind = Callable[[Any, int, int], Decoder]


def open_decoder(model: Any, max_rows: int, columns: int) -> Decoder:
    """A decoder for up to `max_rows` rows: the fastest that was seen to be right for this model.

    `columns`: tokens of the longest row, and some more where rows arrive late: when all are used, it moves along.
    """
    return fastest(model)(model, max_rows, columns)


def fastest(model: Any) -> Kind:
    """The fastest kind of decoder that is right for a model: tried once, then remembered."""
    known: Kind | None = getattr(model, "_heedful_decoder", None)
    if known is None:
        known = next((kind for kind in (FusedDecoder, CachedDecoder) if _is_exact(model, kind)), PlainDecoder)
        if known is PlainDecoder:
            _log.warning("%s keeps no plain key-value cache: sampling will be slow", type(model).__name__)
        model._heedful_decoder = known
    return known


class CachedDecoder:
    """Keys and values in one preallocated cache; a prompt that several rows share is computed once."""

    def __init__(self, model: Any, max_rows: int, columns: int) -> None:
        self.model = model
        self.cache = RowCache(model.config.get_text_config().num_hidden_layers, max_rows, columns)
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @torch.no_grad()
    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        distinct = list(dict.fromkeys(tuple(prompt) for prompt in prompts))
        logits = []
        for group in micro_batches([len(prompt) for prompt in distinct], max_tokens=PREFILL_TOKENS):
            place = {distinct[index]: row for row, index in enumerate(group)}
            rows = [tuple(prompt) for prompt in prompts if tuple(prompt) in place]
            # Without a config every layer keeps all its columns, in sliding layers too; their mask does the sliding.
            prefilled = DynamicCache()
            ids_BP, mask_BP = left_pad([distinct[index] for index in group], device=self.model.device)
            padded = not bool(mask_BP.all())
            logits_BV = self._forward(
                ids_BP, mask_BP if padded else None, position_ids(mask_BP), prefilled, **self.last_only
            )
            row_of = torch.tensor([place[row] for row in rows], device=ids_BP.device)
            states = [(layer.keys, layer.values) for layer in prefilled.layers]
            self.cache.append(states, row_of, np.array([len(row) for row in rows]))
            logits.append(logits_BV[row_of])
        return torch.cat(logits)

    @torch.no_grad()
    def step(self, tokens_N: Tensor) -> Tensor:
        at = self.cache.timeline
        starts_N1 = torch.from_numpy(at.starts[: at.rows, None]).to(tokens_N.device)
        padded = bool((at.starts[: at.rows] > at.start).any())
        mask_NS = torch.arange(at.start, at.end + 1, device=tokens_N.device) >= starts_N1 if padded else None
        logits_NV = self._forward(tokens_N[:, None], mask_NS, at.end - starts_N1, self.cache)
        self.cache.advance()
        return logits_NV

    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        return self.cache.remove(done_N)

    def _forward(self, ids_BS: Tensor, mask: Tensor | None, positions_BS: Tensor, cache: Any, **more: Any) -> Tensor:
        if self.takes_positions:
            more["position_ids"] = positions_BS
        out = self.model(input_ids=ids_BS, attention_mask=mask, past_key_values=cache, use_cache=True, **more)
        logits_BSV: Tensor = out.logits
        return logits_BSV[:, -1]


class PlainDecoder:
    """Every step reads every row from its beginning: slow, and right for whatever is causal."""

    def __init__(self, model: Any, max_rows: int, columns: int) -> None:
        self.model = model
        self.rows: list[list[int]] = []

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        self.rows += [list(prompt) for prompt in prompts]
        return self._logits(self.rows[-len(prompts) :])

    def step(self, tokens_N: Tensor) -> Tensor:
        for row, token in zip(self.rows, tokens_N.tolist(), strict=True):
            row.append(token)
        return self._logits(self.rows)

    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        order = compaction(done_N)
        self.rows = [self.rows[index] for index in order]
        return order

    @torch.no_grad()
    def _logits(self, rows: list[list[int]]) -> Tensor:
        ids_BS, lengths_B = right_pad(rows, 0, device=self.model.device)
        logits_BSV: Tensor = self.model(input_ids=ids_BS, use_cache=False).logits
        return logits_BSV[torch.arange(len(rows), device=lengths_B.device), lengths_B - 1]


def _is_exact(model: Any, kind: Kind) -> bool:
    """Whether decoding gives what reading from the beginning gives: ragged rows, a removal and a late arrival."""
    if kind is FusedDecoder and not (
        forward.path(model).packed and is_llama(model.base_model) and head_is_exact(model)
    ):
        return False
    layers = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return False
    width = int(model.config.get_text_config().vocab_size)
    tokens = [index * 7 % width for index in range(1, 16)]
    prompts = [tokens[:6], tokens[6:11], tokens[11:14]]
    decoders: list[Decoder] = [kind(model, 4, 9), PlainDecoder(model, 4, 9)]
    seen = []
    for decoder in decoders:
        logits = [decoder.add(prompts)]
        logits.append(decoder.step(torch.tensor(tokens[:3], device=model.device)))
        decoder.remove(np.array([True, False, False]))
        logits.append(decoder.add([tokens[:2], tokens[:2]]))
        logits.append(decoder.step(torch.tensor(tokens[:4], device=model.device)))
        seen.append(torch.cat(logits).float())
    scale = float(seen[1].abs().max())
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    return bool((seen[0] - seen[1]).abs().max() <= tolerance * scale)
