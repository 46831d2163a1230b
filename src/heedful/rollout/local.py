"""Sampling in this process: one loop of rows that join and leave, and an engine around it."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.shared import Generation
from heedful.fast.api import Decoder, eval_mode, fastest, open_decoder
from heedful.models import adapters
from heedful.models.ids import ids_of
from heedful.models.load import context_length
from heedful.models.render import stop_ids
from heedful.models.shards import assembled, is_sharded
from heedful.models.unread import tell_sampling
from heedful.rollout.room import longest_prompt
from heedful.rollout.sampler import sample
from heedful.rollout.streams import uniforms
from heedful.rollout.tops import tops
from heedful.rollout.types import Finish, Sample, SampledToken, Stream, Top


class LocalEngine:
    """An engine around a model in this process. It reads the present weights at each call and leaves its mode alone.

    `dtype`: what it computes in (None: the weights' own). Another one than the weights' takes a copy of them while a
    call lasts. `fast`: whether the fast decoder may be used.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype | None = None, fast: bool = True
    ) -> None:
        self.model, self.dtype, self.fast = model, dtype, fast
        self.version = 0
        self._whole: Any = None  # a plain copy of the model, while a rollout lasts
        self._stopped = False
        self._tried: dict[Any, bool] = {}  # kinds of decoders on the merged model, which is new at each call
        self.context, self.ids = context_length(model), ids_of(model)
        tell_sampling(tokenizer, model)
        self.stops = np.array(stop_ids(tokenizer, model.config, getattr(model, "generation_config", None)))

    @property
    def decoder(self) -> str:
        """Which decoder this model samples with: "fast", "cached" or "plain"."""
        with self.gathered():
            return fastest(self.computing(), self.fast).__name__.removesuffix("Decoder").lower()

    @property
    def metrics(self) -> dict[str, float]:
        """Nothing: it computes what the trainer computes."""
        return {}

    @property
    def exact(self) -> bool:
        """In float32, where the training forward gives the same up to rounding. In lower precision it does not."""
        return (self.dtype or self.model.dtype) == torch.float32

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation | Sequence[Generation]
    ) -> list[Sample]:
        """See `types.Engine`."""
        each = [settings] * len(prompts) if isinstance(settings, Generation) else settings
        asked = list(zip(prompts, streams, each, strict=True))
        if not asked:
            return []
        rows = self.open(min(len(asked), max(one.max_rows for one in each)))
        # Longest first, equal prompts side by side: similar lengths pad little, and a prompt's samples share its pass.
        order = sorted(range(len(asked)), key=lambda i: (-len(prompts[i]), list(prompts[i])))
        index_of = {rows.add(*asked[i]): i for i in order}
        samples: dict[int, Sample] = {}
        with eval_mode(self.sampled):
            while rows.busy:
                if self._stopped:
                    raise CancelledError
                samples |= {index_of[token.row]: token.sample for token in rows.step() if token.sample is not None}
        return [samples[i] for i in range(len(asked))]

    def stream(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation) -> Iterator[SampledToken]:
        """See `types.Engine`."""
        rows = self.open(1)
        rows.add(prompt_ids, stream, settings)
        return (token for _ in iter(lambda: rows.busy, False) for token in rows.step())

    def load_weights(self, model: Any, version: int) -> None:
        """Sample from the weights that `model` has now. Rows in flight go on with them after their present step."""
        self.model, self.version = model, version

    @contextmanager
    def gathered(self, *, apart: bool = False) -> Iterator[None]:
        """See `types.Engine`. Sampling token by token from shards would gather all weights for every token."""
        if self._whole is not None or not (apart or is_sharded(self.model)):
            yield
            return
        if is_sharded(self.model):
            self._whole = assembled(self.model, self.dtype or torch.float32)
        else:
            self._whole = self._copied()
        try:
            yield
        finally:
            self._whole, self._stopped = None, False

    @property
    def sampled(self) -> Any:
        """The model whose mode counts: the copy, while there is one."""
        return self.model if self._whole is None else self._whole

    def stop(self) -> None:
        """See `types.Engine`."""
        self._stopped = True

    def open(self, max_rows: int) -> SamplingLoop:
        """A loop of up to `max_rows` rows at a time, for a caller that has more to add while others are answered."""
        return SamplingLoop(self, max_rows)

    def computing(self) -> Any:
        """The model in the precision that it computes in."""
        if self._whole is not None:
            self._whole.__dict__["_heedful_decoders"] = self._tried
            return self._whole
        model = self._sampled()
        if model is not self.model:
            model.__dict__["_heedful_decoders"] = self._tried
        if self.dtype in (None, model.dtype):
            return model
        fastest(model, self.fast)  # tried once. The copy inherits what was found
        # one weight after the other, so that there is no second copy. Buffers, as rotary frequencies, stay in float32
        floating = [p for p in model.parameters() if p.is_floating_point()]
        cast: dict[int, Any] = {id(p): nn.Parameter(p.detach().to(self.dtype), requires_grad=False) for p in floating}
        return copy.deepcopy(model, cast)

    def _copied(self) -> Any:
        """What samples, sharing no weight that learns."""
        model = self.computing()
        if model is self.model:
            model = copy.deepcopy(model, {id(p): p for p in model.parameters() if not p.requires_grad})
        return model.eval()

    def _sampled(self) -> Any:
        """The model, merged: it then has fewer products, and may use the fast decoder. In 4 bits it stays as small."""
        return self.model if adapters.in_4_bits(self.model) else adapters.merged(self.model)


@dataclass(eq=False)
class _Row:
    """One prompt on its way: its draws, and what was sampled so far."""

    number: int
    prompt_ids: list[int]
    settings: Generation
    draws: NDArray[np.float64]
    top: int | None = None
    response_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[tuple[int, int]] = field(default_factory=list)
    finish: Finish | None = None
    cancelled: bool = False


class SamplingLoop:
    """The loop of an engine: rows join at any time, of any length and with any settings, and leave when they are done.

    `step` belongs to one thread. `add` and `cancel` may be called from any other. The weights are those at the first
    step, until `load_weights` of the engine.
    """

    def __init__(self, engine: LocalEngine, max_rows: int) -> None:
        self.engine, self.max_rows = engine, max_rows
        self.version = engine.version
        self._numbers = itertools.count()
        self._rows: dict[int, _Row] = {}
        self._waiting: deque[_Row] = deque()
        self._flying: list[_Row] = []
        self._tokens = torch.empty(0, dtype=torch.long)  # the last token of each row in flight
        self._decoder: Decoder | None = None

    def add(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation, top: int | None = None) -> int:
        """Queue a prompt: the number of its row. Raises UserError for a prompt that leaves no room for its answer.

        `top`: each of its tokens comes with the log-probabilities of the `top` most probable tokens.
        """
        longest = longest_prompt(self.engine.context, settings.max_new_tokens)
        if not 1 <= len(prompt_ids) <= longest:
            raise UserError(
                f"a prompt of {len(prompt_ids)} tokens: 1 to {longest} leave room for {settings.max_new_tokens} more "
                f"in the model's context of {self.engine.context}. Shorten it or lower generation.max_new_tokens"
            )
        draws = uniforms(stream, settings.max_new_tokens)
        row = _Row(next(self._numbers), list(prompt_ids), settings, draws, top)
        self._rows[row.number] = row
        self._waiting.append(row)
        return row.number

    def cancel(self, number: int) -> None:
        """Drop a row before the next step. One that is done already is left alone."""
        if (row := self._rows.pop(number, None)) is not None:
            row.cancelled = True

    @property
    def busy(self) -> bool:
        """Whether a row waits or is in flight."""
        return bool(self._rows)

    def step(self) -> list[SampledToken]:
        """One token for every row in flight, after waiting rows have joined."""
        with eval_mode(self.engine.sampled):
            decoder = self._open()
            # 1) Drop the rows that are done or cancelled.
            gone_N = np.array([row.finish is not None or row.cancelled for row in self._flying], dtype=bool)
            if gone_N.any():
                order = decoder.remove(gone_N)
                self._flying = [self._flying[index] for index in order]
                self._tokens = self._tokens[torch.from_numpy(order).to(self._tokens.device)]
            # 2) One forward pass for the rows in flight, and one for those that join.
            new = self._joining()
            try:
                parts = [decoder.step(self._tokens)] if self._flying else []
                if new:
                    rooms = [row.settings.max_new_tokens - len(row.response_ids) for row in new]
                    parts.append(decoder.add([row.prompt_ids + row.response_ids for row in new], rooms))
            except BaseException:  # every row waits again, and goes on from the tokens that it has
                self._waiting.extendleft(reversed(self._flying + new))
                self._flying, self._decoder = [], None
                raise
            self._flying += new
            # 3) One token for each.
            return self._sample(torch.cat(parts) if len(parts) > 1 else parts[0]) if parts else []

    def _open(self) -> Decoder:
        """The decoder, with the newest weights."""
        if self._decoder is None:
            self.version = self.engine.version
            self._decoder = open_decoder(self.engine.computing(), self.max_rows, self.engine.fast)
        elif self.version != self.engine.version:
            self.version = self.engine.version
            self._decoder.use(self.engine.computing())
        return self._decoder

    def _joining(self) -> list[_Row]:
        """Rows to let in: an eighth of all at least, since each arrival is a forward pass of its own."""
        free = self.max_rows - len(self._flying)
        if self._flying and free < min(max(1, self.max_rows // 8), len(self._waiting)):
            return []
        new: list[_Row] = []
        while self._waiting and len(new) < free:
            row = self._waiting.popleft()
            if not row.cancelled:
                new.append(row)
        return new

    def _sample(self, logits_NV: torch.Tensor) -> list[SampledToken]:
        rows = self._flying
        draws_N = torch.from_numpy(np.array([row.draws[len(row.response_ids)] for row in rows])).to(logits_NV.device)
        logits_NV = self.engine.ids.logits(logits_NV)
        self._tokens, logprobs_N = sample(logits_NV, draws_N, [row.settings for row in rows])
        tokens = self._tokens.cpu().numpy()
        stopped_N = (tokens[:, None] == self.engine.stops).any(1).tolist()
        asked = [place for place, row in enumerate(rows) if row.top is not None]
        with_top: dict[int, Top] = {}
        if asked:
            most = max(rows[place].top or 0 for place in asked)
            with_top = dict(zip(asked, tops(logits_NV[asked], self._tokens[asked], most), strict=True))
        found = []
        each = zip(rows, tokens.tolist(), logprobs_N.tolist(), stopped_N, strict=True)
        for place, (row, token, logprob, stopped) in enumerate(each):
            if not row.versions or row.versions[-1][0] != self.version:
                row.versions.append((self.version, len(row.response_ids)))
            row.response_ids.append(token)
            row.logprobs.append(logprob)
            whole = None
            if stopped or len(row.response_ids) == row.settings.max_new_tokens:
                row.finish = "stop" if stopped else "length"
                whole = Sample(row.prompt_ids, row.response_ids, row.finish, row.logprobs, row.versions)
                self._rows.pop(row.number, None)
            found.append(SampledToken(row.number, token, logprob, whole, with_top.get(place)))
        return found
