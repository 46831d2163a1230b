"""Attention of rows that lie end to end or side by side. On a CPU the fused kernel is slow for rows of up to some
hundred tokens (docs/performance.md): plain products stand in for it, here with their own backward passes.

Letters: docs/conventions.md; L heads of all rows, C tokens that a query may see, H heads of width E.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Tokens of a row up to which rows side by side attend by plain products; the fused kernel saves little memory there.
SHORT = 128
# Row by row pays from so many numbers of keys a query on (few operators' worth below), and keeps too much for the
# backward pass where queries see more than so many tokens in the mean.
ENOUGH, MOST = 1 << 15, 512
PIECE = 128  # queries at a time; with more too many would be multiplied with keys that they do not see


class Row(NamedTuple):
    """Tokens [start, stop): they see the `before` tokens from `prompt` on, which stand further ahead, and each other
    causally.
    """

    start: int
    stop: int
    prompt: int
    before: int


def side_by_side(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """[G H S E]: of q over k and v [G H C E] with a mask of 0 and -inf; None: causal."""
    k, v = (_for_heads(x, q.shape[1]) for x in (k, v))
    if q.device.type == "cpu" and q.dtype == torch.float32 and k.shape[2] <= SHORT:
        out: Tensor = _Short.apply(q, k, v, bias, scale)
        return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, scale=scale)


def row_by_row(q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, rows: Sequence[Row], scale: float) -> Tensor:
    """out_NHE without padding or copies; 0 for tokens behind the last row. In float32 at least, and keeps H weights for
    each query and what it may see.
    """
    wide = torch.promote_types(q_NHE.dtype, torch.float32)
    k_NHE, v_NHE = (_for_heads(x, q_NHE.shape[1]).to(wide) for x in (k_NHE, v_NHE))
    with torch.autocast(q_NHE.device.type, enabled=False):
        out: Tensor = _Rows.apply(q_NHE.to(wide), k_NHE, v_NHE, rows, scale)
    return out.to(q_NHE.dtype)


def row_by_row_pays(q_NHE: Tensor, seen: float) -> bool:
    """`seen`: tokens of a query's row, in the mean."""
    return q_NHE.device.type == "cpu" and seen * q_NHE[0].numel() >= ENOUGH and seen <= MOST


def _for_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values [N H ...] once for each head of the queries."""
    times = heads // x.shape[1]
    return x if times == 1 else x.repeat_interleave(times, 1)


class _Short(torch.autograd.Function):
    """softmax(scale q k' + bias) v by plain products."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        G, H, S, E = q.shape
        if bias is None:
            bias = torch.full((S, S), -torch.inf, dtype=q.dtype).triu_(1)
        q_LSE, k_LCE, v_LCE = (x.reshape(G * H, -1, E) for x in (q, k, v))
        scores = torch.bmm(q_LSE, k_LCE.transpose(1, 2)).view(G, H, S, -1)
        weights_LSC = torch.add(bias, scores, alpha=scale, out=scores).softmax(-1).flatten(0, 1)
        ctx.save_for_backward(q_LSE, k_LCE, v_LCE, weights_LSC)
        ctx.scale = scale
        return torch.bmm(weights_LSC, v_LCE).view(G, H, S, E)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_LSE, k_LCE, v_LCE, weights_LSC = ctx.saved_tensors
        G, H = grads[0].shape[:2]
        grad_LSE = grads[0].reshape(q_LSE.shape)
        of_weights = torch.bmm(grad_LSE, v_LCE.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights_LSC, -1, weights_LSC.dtype)
        found = (
            torch.bmm(of_scores, k_LCE).mul_(ctx.scale),
            torch.bmm(of_scores.transpose(1, 2), q_LSE).mul_(ctx.scale),
            torch.bmm(weights_LSC.transpose(1, 2), grad_LSE),
        )
        return (*(x.view(G, H, *x.shape[1:]) for x in found), None, None)


class _Rows(torch.autograd.Function):
    """softmax(scale q k') v of each row, some queries at a time and with the keys that one of them sees."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Sequence[Row], scale: float) -> Tensor:
        out, kept = torch.empty_like(q), []
        out[rows[-1].stop :] = 0
        for row in rows:
            k_HEC, v_HEC = _seen(k, row), _seen(v, row)
            for start, stop, C in _pieces(row):
                hidden = _hidden(stop - start, C, q.dtype)
                weights = torch.baddbmm(hidden, q[start:stop].transpose(0, 1), k_HEC[..., :C], alpha=scale).softmax(-1)
                out[start:stop] = torch.bmm(weights, v_HEC[..., :C].transpose(1, 2)).transpose(0, 1)
                kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.rows, ctx.scale = rows, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        for whole in (of_q, of_k, of_v):
            whole[ctx.rows[-1].stop :] = 0
        weights_of = iter(kept)
        for row in ctx.rows:
            k_HEC, v_HEC = _seen(k, row), _seen(v, row)
            of_k_HCE, of_v_HCE = (x.new_zeros(x.shape[0], x.shape[2], x.shape[1]) for x in (k_HEC, v_HEC))
            for start, stop, C in _pieces(row):
                weights, grad = next(weights_of), grads[0][start:stop].transpose(0, 1)
                of_weights = torch.bmm(grad, v_HEC[..., :C])
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scale)
                of_q[start:stop] = torch.bmm(of_scores, k_HEC[..., :C].transpose(1, 2)).transpose(0, 1)
                of_k_HCE[:, :C].baddbmm_(of_scores.transpose(1, 2), q[start:stop].transpose(0, 1))
                of_v_HCE[:, :C].baddbmm_(weights.transpose(1, 2), grad)
            for whole, part in ((of_k, of_k_HCE.transpose(0, 1)), (of_v, of_v_HCE.transpose(0, 1))):
                whole[row.start : row.stop] = part[row.before :]
                if row.before:
                    whole[row.prompt : row.prompt + row.before] += part[: row.before]
        return of_q, of_k, of_v, None, None


def _seen(x_NHE: Tensor, row: Row) -> Tensor:
    """x_HEC of what the last token of a row sees."""
    own = x_NHE[row.start : row.stop]
    if row.before:
        own = torch.cat([x_NHE[row.prompt : row.prompt + row.before], own])
    return own.permute(1, 2, 0)


def _pieces(row: Row) -> Iterator[tuple[int, int, int]]:
    """Tokens [start, stop) of a row, and how many the last of them sees."""
    length = row.stop - row.start
    count = -(-length // PIECE)
    for piece in range(count):
        start, stop = length * piece // count, length * (piece + 1) // count
        yield row.start + start, row.start + stop, row.before + stop


def _hidden(queries: int, C: int, dtype: torch.dtype) -> Tensor:
    """[queries C], -inf where the last `queries` of C tokens do not see."""
    before = -(-C // MOST) * MOST
    return _staircase(PIECE, before, dtype)[:queries, before + queries - C : before + queries]


@cache
def _staircase(queries: int, before: int, dtype: torch.dtype) -> Tensor:
    """[queries, before + queries]: query i sees the first before + i + 1."""
    with torch.inference_mode(False):
        return torch.full((queries, before + queries), -torch.inf, dtype=dtype).triu_(before + 1)
