"""Attention of rows that lie end to end or side by side. On a CPU the fused kernel is slow for rows of up to some
hundred tokens (docs/performance.md): plain products stand in for it, here with their own backward passes.

Letters: docs/conventions.md; L heads of all rows, C tokens that a query may see, H heads of width E, M queries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Tokens of a row up to which rows side by side attend by plain products; the fused kernel saves little memory there.
SHORT = 128
# Row by row pays where (mean length of a token's row) x (width of all its heads) is at least that; sooner in lower
# precision, where the fused kernel is slower still. It keeps too much for the backward pass where rows are longer than
# MOST in the mean. What is chosen depends on the pass, and so does rounding: in bfloat16 row by row is the more exact.
ENOUGH, ENOUGH_NARROW, MOST = 1 << 15, 1 << 13, 512
PIECE = 128  # queries at a time; with more too many would be multiplied with keys that they do not see
MASKS = 512  # masks are kept for multiples of so many tokens


class Row(NamedTuple):
    """Tokens [start, stop): they see the `before` tokens from `prompt` on, which belong to an earlier row, and each
    other causally.
    """

    start: int
    stop: int
    prompt: int
    before: int


def side_by_side(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """[G H S E]: of q over k and v [G H C E] or of fewer heads, with a mask of 0 and -inf; None: causal."""
    k, v = (_for_heads(x, q.shape[1]) for x in (k, v))
    if q.device.type == "cpu" and q.dtype == torch.float32 and k.shape[2] <= SHORT:
        out: Tensor = _Short.apply(q, k, v, bias, scale)
        return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, scale=scale)


def row_by_row(
    q_MHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, rows: Sequence[Row], scale: float, at_M: Tensor | None = None
) -> Tensor:
    """out_MHE of the tokens `at_M` in ascending order (None: all N); 0 for those behind the last row. Rows lie one
    after the other, each behind the one that it goes on from; keys and values can be of fewer heads.

    Computed in float32 at least. For the backward pass it keeps H weights for each query and what it may see.
    """
    k_NHE, v_NHE = (_for_heads(x, q_MHE.shape[1]) for x in (k_NHE, v_NHE))
    pieces = _pieces(rows, None if at_M is None else at_M.tolist())
    with torch.autocast(q_MHE.device.type, enabled=False):
        out: Tensor = _Rows.apply(q_MHE, k_NHE, v_NHE, pieces, scale)
    return out


def row_by_row_pays(width: int, reach: float, dtype: torch.dtype) -> bool:
    """On a CPU, for queries of so many numbers in rows of so many tokens in the mean."""
    enough = ENOUGH_NARROW if dtype in (torch.bfloat16, torch.float16) else ENOUGH
    return reach * width >= enough and reach <= MOST


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


class Piece(NamedTuple):
    """Queries [start, stop); the last one sees C tokens of its row."""

    start: int
    stop: int
    C: int


Pieces = list[tuple[Row, list[Piece]]]


def _pieces(rows: Sequence[Row], at: list[int] | None) -> Pieces:
    """For each row that has some its queries, neighbours in pieces of at most PIECE and of like size."""
    found: Pieces = []
    for row in rows:
        if at is None:
            runs = [(row.start, row.stop, row.start)]
        else:
            runs = _runs(at, bisect_left(at, row.start), bisect_left(at, row.stop))
        pieces = []
        for start, stop, place in runs:
            count = -(-(stop - start) // PIECE)
            cuts = [start + (stop - start) * i // count for i in range(count + 1)]
            ahead = row.before + place - row.start - start
            pieces += [Piece(a, b, ahead + b) for a, b in pairwise(cuts)]
        if pieces:
            found.append((row, pieces))
    return found


def _runs(at: list[int], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Of at[start:stop], where neighbours stand: [start, stop) and the place of the first."""
    breaks = [i for i in range(start + 1, stop) if at[i] != at[i - 1] + 1]
    return [(a, b, at[a]) for a, b in pairwise([start, *breaks, stop])] if stop > start else []


class _Rows(torch.autograd.Function):
    """softmax(scale q k') v of each row, some queries at a time and with the keys that one of them sees."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Pieces, scale: float) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        queries, k_wide, v_wide = _scaled(q.to(wide), scale), k.to(wide), v.to(wide)
        out = torch.empty_like(queries)
        q_HME, out_HME = queries.transpose(0, 1), out.transpose(0, 1)
        learning, kept, done = any(ctx.needs_input_grad), [], 0
        for row, pieces in rows:
            keys, values = _seen(k_wide, row), _seen(v_wide, row)
            for start, stop, C in pieces:
                hidden = _hidden(stop - start, C, wide)
                weights = torch.baddbmm(hidden, q_HME[:, start:stop], keys[:, :C].transpose(1, 2)).softmax(-1)
                out_HME[:, start:stop] = torch.bmm(weights, values[:, :C])
                if learning:
                    kept.append(weights)
                done = max(done, stop)
        out[done:] = 0
        ctx.save_for_backward(q, k, v, *kept)
        ctx.rows, ctx.scale = rows, scale
        return out.to(q.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        narrow, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
        q, k, v, grad = _scaled(q.to(wide), ctx.scale), k.to(wide), v.to(wide), grads[0].to(wide)
        of_q, of_k, of_v = (torch.zeros_like(x) for x in (q, k, v))
        q_HME, grad_HME, of_q_HME = (x.transpose(0, 1) for x in (q, grad, of_q))
        weights_of = iter(kept)
        for row, pieces in ctx.rows:
            keys, values = _seen(k, row), _seen(v, row)
            of_keys, of_values = (keys.new_zeros(keys.shape) if len(pieces) > 1 else None for _ in range(2))
            for start, stop, C in pieces:
                weights, its_q, its_grad = next(weights_of), q_HME[:, start:stop], grad_HME[:, start:stop]
                of_weights = torch.bmm(its_grad, values[:, :C].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, wide)
                of_q_HME[:, start:stop] = torch.bmm(of_scores, keys[:, :C])
                of_keys = _added(of_keys, of_scores.transpose(1, 2), its_q)
                of_values = _added(of_values, weights.transpose(1, 2), its_grad)
            _spread(of_keys, of_k, row)
            _spread(of_values, of_v, row)
        return *(x.to(narrow) for x in (_scaled(of_q, ctx.scale), of_k, of_v)), None, None


def _scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else x * scale


def _seen(x_NHE: Tensor, row: Row) -> Tensor:
    """x_HCE of what the last token of a row sees."""
    own = x_NHE[row.start : row.stop]
    if row.before:
        own = torch.cat([x_NHE[row.prompt : row.prompt + row.before], own])
    return own.transpose(0, 1)


def _added(total_HCE: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + a b in its first places; a b where there is no total yet."""
    if total_HCE is None:
        return torch.bmm(a, b)
    total_HCE[:, : a.shape[1]].baddbmm_(a, b)
    return total_HCE


def _spread(part_HCE: Tensor | None, whole_NHE: Tensor, row: Row) -> None:
    """The gradient of what a row saw, to where that stands. A row's own tokens come before those that go on from it."""
    assert part_HCE is not None
    part_CHE = part_HCE.transpose(0, 1)
    seen = len(part_CHE)
    if row.before:
        whole_NHE[row.prompt : row.prompt + row.before] += part_CHE[: row.before]
    whole_NHE[row.start : row.start + seen - row.before] = part_CHE[row.before :]


def _hidden(queries: int, C: int, dtype: torch.dtype) -> Tensor:
    """[queries C], -inf where the last `queries` of C tokens do not see."""
    before = -(-C // MASKS) * MASKS
    return _staircase(PIECE, before, dtype)[:queries, before + queries - C : before + queries]


@cache
def _staircase(queries: int, before: int, dtype: torch.dtype) -> Tensor:
    """[queries, before + queries]: query i sees the first before + i + 1."""
    with torch.inference_mode(False):
        return torch.full((queries, before + queries), -torch.inf, dtype=dtype).triu_(before + 1)
