"""Attention one row after the other, for a CPU.

Torch's fused kernel is slow there for rows of up to some hundred tokens (docs/performance.md). Plain products on views
of the packed tokens take its place: nothing is padded or copied, and a query multiplies only keys that it may see.

Letters: docs/conventions.md. H heads of width E, M queries, C tokens that a query may see.
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

from heedful.fast.layout import PackedRow

# Row by row pays from (mean length of a token's row) x (width of all heads) = ENOUGH on, and sooner in lower precision,
# where the fused kernel is slower. Beyond a mean length of MOST it would keep too many weights for the backward pass.
ENOUGH, ENOUGH_NARROW, MOST = 1 << 15, 1 << 13, 512
PIECE = 128  # queries at a time: with more, too many would be multiplied with keys that they do not see
MASKS = 512  # masks are kept for multiples of this many tokens


def row_by_row_pays(width: int, reach: float, dtype: torch.dtype) -> bool:
    """Whether to go row by row, for queries of this width over all heads and rows of this mean length."""
    enough = ENOUGH_NARROW if dtype in (torch.bfloat16, torch.float16) else ENOUGH
    return reach * width >= enough and reach <= MOST


def row_by_row(
    q_NHE: Tensor,
    k_NHE: Tensor,
    v_NHE: Tensor,
    rows: Sequence[PackedRow],
    scale: float,
    window: int | None = None,
    wanted_M: Tensor | None = None,
) -> Tensor:
    """out_NHE, computed in float32 at least. 0 for tokens of no row and for tokens outside `wanted_M` (None: all).

    Rows lie one after the other, each behind the row whose prompt it continues. `window`: a token sees so many, itself
    included. For the backward pass it keeps H weights for each query and each key that the query may see.
    """
    k_NHE, v_NHE = (for_heads(x, q_NHE.shape[1]) for x in (k_NHE, v_NHE))
    pieces = _pieces(rows, None if wanted_M is None else wanted_M.tolist(), window)
    with torch.autocast(q_NHE.device.type, enabled=False):
        out: Tensor = _Rows.apply(q_NHE, k_NHE, v_NHE, pieces, scale, window)
    return out


def for_heads(x_NHE: Tensor, heads: int) -> Tensor:
    """Keys or values, repeated so that every head of the queries has its own."""
    times = heads // x_NHE.shape[1]
    return x_NHE if times == 1 else x_NHE.repeat_interleave(times, 1)


class QueryPiece(NamedTuple):
    """Queries [start, stop), neighbours in one row. Together they see the row's tokens [first, C), counted from the
    beginning of its prompt. The last query sees token C - 1 last.
    """

    start: int
    stop: int
    first: int
    C: int


QueryPieces = list[tuple[PackedRow, list[QueryPiece]]]


def _pieces(rows: Sequence[PackedRow], wanted: list[int] | None, window: int | None) -> QueryPieces:
    """The queries of each row, cut into pieces of similar length, at most PIECE. Rows without queries are left out."""
    found: QueryPieces = []
    for row in rows:
        spans = [(row.start, row.stop)] if wanted is None else _spans(wanted, row)
        pieces = []
        for start, stop in spans:
            count = -(-(stop - start) // PIECE)
            cuts = [start + (stop - start) * i // count for i in range(count + 1)]
            for a, b in pairwise(cuts):
                place, C = row.before + a - row.start, row.before + b - row.start
                pieces.append(QueryPiece(a, b, 0 if window is None else max(0, place - window + 1), C))
        if pieces:
            found.append((row, pieces))
    return found


def _spans(wanted: list[int], row: PackedRow) -> list[tuple[int, int]]:
    """Runs of neighbours among the wanted tokens of a row: of 3 4 5 9 in [0, 8) there is one, (3, 6)."""
    inside = wanted[bisect_left(wanted, row.start) : bisect_left(wanted, row.stop)]
    breaks = [i for i in range(1, len(inside)) if inside[i] != inside[i - 1] + 1]
    return [(inside[a], inside[b - 1] + 1) for a, b in pairwise([0, *breaks, len(inside)])] if inside else []


class _Rows(torch.autograd.Function):
    """softmax(scale q k') v of each row, one piece of queries after the other."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: QueryPieces, scale: float, window: int | None
    ) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        queries, k_wide, v_wide = _scaled(q.to(wide), scale), k.to(wide), v.to(wide)
        out = torch.zeros_like(queries)
        q_HME, out_HME = queries.transpose(0, 1), out.transpose(0, 1)
        learning, kept = any(ctx.needs_input_grad), []
        for row, pieces in rows:
            keys, values = _seen(k_wide, row), _seen(v_wide, row)
            for start, stop, first, C in pieces:
                hidden = _hidden(stop - start, first, C, window, wide)
                weights = torch.baddbmm(hidden, q_HME[:, start:stop], keys[:, first:C].transpose(1, 2)).softmax(-1)
                out_HME[:, start:stop] = torch.bmm(weights, values[:, first:C])
                if learning:
                    kept.append(weights)
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
            # one piece that sees everything writes its gradients, several add theirs up
            whole = len(pieces) == 1 and pieces[0].first == 0
            of_keys, of_values = (None if whole else keys.new_zeros(keys.shape) for _ in range(2))
            for start, stop, first, C in pieces:
                weights, its_q, its_grad = next(weights_of), q_HME[:, start:stop], grad_HME[:, start:stop]
                of_weights = torch.bmm(its_grad, values[:, first:C].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, wide)
                of_q_HME[:, start:stop] = torch.bmm(of_scores, keys[:, first:C])
                of_keys = _added(of_keys, first, of_scores.transpose(1, 2), its_q)
                of_values = _added(of_values, first, weights.transpose(1, 2), its_grad)
            _spread(of_keys, of_k, row)
            _spread(of_values, of_v, row)
        return *(x.to(narrow) for x in (_scaled(of_q, ctx.scale), of_k, of_v)), None, None, None


def _scaled(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else x * scale


def _seen(x_NHE: Tensor, row: PackedRow) -> Tensor:
    """x_HCE of what the last token of a row sees: the prompt that it continues, then the row itself."""
    own = x_NHE[row.start : row.stop]
    if row.before:
        own = torch.cat([x_NHE[row.prompt : row.prompt + row.before], own])
    return own.transpose(0, 1)


def _added(total_HCE: Tensor | None, first: int, a: Tensor, b: Tensor) -> Tensor:
    """total + a b at the places from `first` on. a b alone where there is no total yet."""
    if total_HCE is None:
        return torch.bmm(a, b)
    total_HCE[:, first : first + a.shape[1]].baddbmm_(a, b)
    return total_HCE


def _spread(part_HCE: Tensor | None, whole_NHE: Tensor, row: PackedRow) -> None:
    """Write the gradient of what a row saw to where that lies. Rows come before the rows that continue them."""
    assert part_HCE is not None
    part_CHE = part_HCE.transpose(0, 1)
    if row.before:
        whole_NHE[row.prompt : row.prompt + row.before] += part_CHE[: row.before]
    whole_NHE[row.start : row.start + len(part_CHE) - row.before] = part_CHE[row.before :]


def _hidden(queries: int, first: int, C: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """[queries, C - first]: -inf where the last `queries` of C tokens do not see a token from `first` on."""
    keys = C - first
    before = -(-keys // MASKS) * MASKS
    hidden = _staircase(PIECE, before, dtype)[:queries, before + queries - keys : before + queries]
    if window is None or window >= C:
        return hidden
    # query i is token C - queries + i. The keys that are `window` or more behind it are hidden as well.
    return hidden + torch.full_like(hidden, -torch.inf).tril_(keys - queries - window)


@cache
def _staircase(queries: int, before: int, dtype: torch.dtype) -> Tensor:
    """[queries, before + queries]: query i sees the first before + i + 1."""
    with torch.inference_mode(False):
        return torch.full((queries, before + queries), -torch.inf, dtype=dtype).triu_(before + 1)
