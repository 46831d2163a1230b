"""The token shift, and log-probabilities in nats. Letters and alignment: docs/conventions.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of V turned to float32 at a time: small enough for a CPU's cache, and a bound on extra memory on a GPU.
_CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}


def predecessors(prompt_lengths_B: Tensor, T: int) -> Tensor:
    """Positions index_BT of the hidden states that predict each response token (P4). The only shift by one.

    Sequences are right-padded, prompts are not empty. In the padded tail of a row an index may lie past the row's end:
    clamp it to S - 1 before gathering.

    A prompt of 3 tokens ends at position 2. The state there predicts the first response token:

    >>> predecessors(torch.tensor([3]), T=2).tolist()
    [[2, 3]]
    """
    steps_T = torch.arange(T, device=prompt_lengths_B.device)
    return prompt_lengths_B[:, None] - 1 + steps_T


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities in nats of `tokens` [..] under logits [.. V] / temperature (P4), in at least float32 (P5).

    Differentiable once. `logits[i]` must already be the prediction of `tokens[i]`. Works in chunks, so that the logits
    are never copied whole to float32.
    """
    flat_N = _TokenLogprobs.apply(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1), temperature)
    return flat_N.view(tokens.shape)


class _TokenLogprobs(torch.autograd.Function):
    """Chunked log-softmax and gather that saves the logits as they are, not a float32 copy of them.

    The backward pass sets rows without an incoming gradient to exactly 0. Otherwise garbage logits at padded positions
    could give NaN gradients.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, tokens_N: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(logits_NV, tokens_N)
        ctx.temperature = temperature
        dtype = torch.promote_types(logits_NV.dtype, torch.float32)
        logprobs_N = torch.empty(tokens_N.shape, dtype=dtype, device=logits_NV.device)
        for chunk in _chunks(logits_NV):
            logprobs_NV = torch.log_softmax(*_scaled(logits_NV[chunk], temperature))
            logprobs_N[chunk] = logprobs_NV.gather(-1, tokens_N[chunk, None]).squeeze(-1)
        return logprobs_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, tokens_N = ctx.saved_tensors
        grad_N = grads[0] / ctx.temperature
        grad_NV = torch.empty_like(logits_NV)
        for chunk in _chunks(logits_NV):
            grad = grad_N[chunk, None]
            part_NV = torch.softmax(*_scaled(logits_NV[chunk], ctx.temperature)).mul_(-grad)
            part_NV.scatter_add_(-1, tokens_N[chunk, None], grad)
            grad_NV[chunk] = part_NV.masked_fill_(grad == 0, 0.0)
        return grad_NV, None, None


def _chunks(rows_NV: Tensor) -> list[slice]:
    n, width = rows_NV.shape
    size = max(1, _CHUNK_ELEMENTS.get(rows_NV.device.type, 1 << 24) // width)
    return [slice(start, start + size) for start in range(0, max(n, 1), size)]


def _scaled(logits_NV: Tensor, temperature: float) -> tuple[Tensor, int, torch.dtype]:
    """The arguments of a softmax over V in at least float32. At temperature 1 softmax itself converts the logits."""
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    return logits_NV if temperature == 1.0 else logits_NV.to(dtype) / temperature, -1, dtype
