"""Sampling in this process."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.shared import Generation
from heedful.models.load import context_length
from heedful.models.render import stop_ids
from heedful.rollout.decoder import Decoder, fastest, open_decoder
from heedful.rollout.sampler import sample
from heedful.rollout.streams import uniforms
from heedful.rollout.types import Finish, Sample, Stream

SLACK = 64  # columns of cache beyond the longest row, so that it is moved along only once in so many steps


@dataclass
class _Row:
    """One prompt on its way: its draws, at most `limit` tokens to come, what was sampled so far."""

    prompt_ids: list[int]
    draws: NDArray[np.float64]
    limit: int
    response_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish = "length"


class LocalEngine:
    """An engine around a model in this process; it reads the present weights at each call and leaves its mode alone.

    What a prompt gets follows from its stream and the weights, up to rounding, and not from what is sampled beside it.
    `dtype`: what it computes in; another than the weights' takes a copy of them for the time of a call.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype | None = None) -> None:
        self.model, self.dtype = model, dtype
        self.context = context_length(model)
        self.stops = np.array(stop_ids(tokenizer, model.config, getattr(model, "generation_config", None)))

    def generate(
        self, prompts: Sequence[Sequence[int]], streams: Sequence[Stream], settings: Generation
    ) -> list[Sample]:
        """One sample a prompt, in the order of the prompts. Raises UserError for a prompt that fills the context."""
        rows = [self._row(*pair, settings) for pair in zip(prompts, streams, strict=True)]
        if rows:
            # Longest first, equal prompts side by side: like lengths pad little, and a prompt's samples share its pass.
            queue = deque(sorted(rows, key=lambda row: (-len(row.prompt_ids), row.prompt_ids)))
            max_rows = min(settings.max_rows, len(rows))
            columns = max(len(row.prompt_ids) + row.limit for row in rows) + (SLACK if len(rows) > max_rows else 0)
            with _eval_mode(self._computing()) as model:
                self._run(open_decoder(model, max_rows, columns), queue, max_rows, settings)
        return [Sample(row.prompt_ids, row.response_ids, row.finish, row.logprobs) for row in rows]

    def stream(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation) -> Iterator[int]:
        """Token ids of one response as they are sampled, the stop id included; the ids are those `generate` gives."""
        row = self._row(prompt_ids, stream, settings)
        model = self._computing()
        with _eval_mode(model):
            decoder = open_decoder(model, 1, len(row.prompt_ids) + row.limit)
            logits_NV = decoder.add([row.prompt_ids])
        while True:
            tokens_N, done_N = self._sample(logits_NV, [row], settings)
            yield row.response_ids[-1]
            if done_N[0]:
                return
            with _eval_mode(model):
                logits_NV = decoder.step(tokens_N)

    def _computing(self) -> Any:
        if self.dtype in (None, self.model.dtype):
            return self.model
        fastest(self.model)  # tried once; the copy inherits what was found
        copied = copy.deepcopy(self.model)
        for parameter in copied.parameters():  # and no buffer: rotary frequencies stay in float32
            parameter.data = parameter.data.to(self.dtype)
        return copied

    def _run(self, decoder: Decoder, queue: deque[_Row], max_rows: int, settings: Generation) -> None:
        """Sample, drop the rows that are done, step, let waiting rows in; until nothing is left."""
        enough = max(1, max_rows // 8)  # rows to let in at a time: each arrival is a forward pass of its own
        flying = [queue.popleft() for _ in range(min(max_rows, len(queue)))]
        logits_NV = decoder.add([row.prompt_ids for row in flying])
        while flying:
            tokens_N, done_N = self._sample(logits_NV, flying, settings)
            if done_N.any():
                order = decoder.remove(done_N)
                flying = [flying[index] for index in order]
                tokens_N = tokens_N[torch.from_numpy(order).to(tokens_N.device)]
            parts = [decoder.step(tokens_N)] if flying else []
            if queue and (max_rows - len(flying) >= min(enough, len(queue)) or not flying):
                new = [queue.popleft() for _ in range(min(max_rows - len(flying), len(queue)))]
                parts.append(decoder.add([row.prompt_ids for row in new]))
                flying += new
            if flying:
                logits_NV = torch.cat(parts) if len(parts) > 1 else parts[0]

    def _sample(self, logits_NV: Tensor, rows: list[_Row], settings: Generation) -> tuple[Tensor, NDArray[np.bool_]]:
        """One token for each row, noted in it; (tokens_N, which rows are done)."""
        draws_N = torch.tensor([row.draws[len(row.response_ids)] for row in rows], device=logits_NV.device)
        tokens_N, logprobs_N = sample(logits_NV, draws_N, settings)
        tokens = tokens_N.cpu().numpy()
        stopped_N = (tokens[:, None] == self.stops).any(1)
        for row, token, logprob, stopped in zip(rows, tokens.tolist(), logprobs_N.tolist(), stopped_N, strict=True):
            row.response_ids.append(token)
            row.logprobs.append(logprob)
            row.finish = "stop" if stopped else "length"
        return tokens_N, stopped_N | np.array([len(row.response_ids) >= row.limit for row in rows])

    def _row(self, prompt_ids: Sequence[int], stream: Stream, settings: Generation) -> _Row:
        limit = min(settings.max_new_tokens, self.context - len(prompt_ids))
        if not prompt_ids or limit < 1:
            raise UserError(
                f"a prompt of {len(prompt_ids)} tokens; the model reads at least 1 and at most {self.context - 1} "
                "before it can answer: shorten the prompt"
            )
        return _Row(list(prompt_ids), uniforms(stream, limit), limit)


@contextmanager
def _eval_mode(model: Any) -> Iterator[Any]:
    training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(training)
