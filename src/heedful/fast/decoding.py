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

from heedful.fast.cache import RowCache, compaction, prefills
from heedful.fast.decoder import PREFILL_TOKENS, FastDecoder, fits
from heedful.maths.masks import position_ids
from heedful.maths.padding import left_pad, right_pad

_log = logging.getLogger(__name__)


class Decoder(Protocol):
    """Rows in flight, at most as many as were asked for when it was opened.

    Rows are dense: new ones go to the end, and the last ones fill the gaps of those removed. A decoder with another
    cache (pages, CUDA graphs) needs these four methods and an entry in `fastest`.
    """

    def add(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Tensor:
        """Start rows of any length, row n with room for `rooms[n]` more tokens: logits_NV of their first tokens."""
        ...

    def step(self, tokens_N: Tensor) -> Tensor:
        """Append one token to every row: logits_NV of the next."""
        ...

    def remove(self, done_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop rows: the former index of each row that remains (see `cache.compaction`)."""
        ...

    def use(self, model: Any) -> None:
        """Go on with the weights of this model, of the same shape. Keys and values so far stay as they are."""
        ...


DecoderKind = Callable[[Any, int], Decoder]


def open_decoder(model: Any, max_rows: int, fast: bool = True) -> Decoder:
    """A decoder for up to `max_rows` rows: the fastest one that is right for this model."""
    return fastest(model, fast)(model, max_rows)


def fastest(model: Any, fast: bool = True) -> DecoderKind:
    """The fastest kind of decoder that is right for a model. Each kind is tried once a model, then remembered.

    `fast`: whether the model's own forward may be replaced at all.
    """
    kinds: list[DecoderKind] = [FastDecoder] if fast and fits(model) else []
    for kind in [*kinds, CachedDecoder]:
        known: dict[DecoderKind, bool] = model.__dict__.setdefault("_heedful_decoders", {})
        if kind not in known:
            known[kind] = _is_exact(model, kind)
        if known[kind]:
            return kind
    if PlainDecoder not in known:
        _log.warning("%s has no plain key-value cache: sampling will be slow", type(model).__name__)
        known[PlainDecoder] = True
    return PlainDecoder


class CachedDecoder:
    """The model's own forward over one preallocated cache. A prompt that several rows share is computed once."""

    def __init__(self, model: Any, max_rows: int) -> None:
        self.cache = RowCache(model.config.get_text_config().num_hidden_layers, max_rows)
        self.use(model)

    def use(self, model: Any) -> None:
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @torch.no_grad()
    def add(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Tensor:
        new = self.cache.admit([len(prompt) for prompt in prompts], rooms)
        parts, rows = [], []
        for prefill in prefills(prompts, PREFILL_TOKENS):
            # Without a config every layer keeps all its columns, in sliding layers too. Their mask does the sliding.
            prefilled = DynamicCache()
            ids_BP, mask_BP = left_pad(prefill.prompts, device=self.model.device)
            padded = not bool(mask_BP.all())
            logits_BV = self._forward(
                ids_BP, mask_BP if padded else None, position_ids(mask_BP), prefilled, **self.last_only
            )
            places = [new.start + row for row in prefill.rows]
            for layer, source in zip(self.cache.layers, prefilled.layers, strict=True):
                layer.put(places, source.keys[prefill.of], source.values[prefill.of])
            parts.append(logits_BV[prefill.of])
            rows += prefill.rows
        return torch.cat(parts)[np.argsort(rows)]

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
    """Every step reads every row from its beginning: slow, and right for every causal model."""

    def __init__(self, model: Any, max_rows: int) -> None:
        self.rows: list[list[int]] = []
        self.use(model)

    def use(self, model: Any) -> None:
        self.model = model

    def add(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> Tensor:
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


def _is_exact(model: Any, kind: DecoderKind) -> bool:
    """Whether decoding gives what reading from the beginning gives: ragged rows, a removal, a longer row that joins."""
    layers = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return False
    width = int(model.config.get_text_config().vocab_size)
    tokens = [index * 7 % width for index in range(1, 16)]
    decoders: list[Decoder] = [kind(model, 4), PlainDecoder(model, 4)]
    seen = []
    for decoder in decoders:
        logits = [decoder.add([tokens[:6], tokens[6:11], tokens[11:14]], [3, 3, 3])]
        logits.append(decoder.step(torch.tensor(tokens[:3], device=model.device)))
        decoder.remove(np.array([True, False, False]))
        logits.append(decoder.add([tokens[:2], tokens[:9]], [2, 2]))
        logits.append(decoder.step(torch.tensor(tokens[:4], device=model.device)))
        seen.append(torch.cat(logits).float())
    scale = float(seen[1].abs().max())
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    return bool((seen[0] - seen[1]).abs().max() <= tolerance * scale)
