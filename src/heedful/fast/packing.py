"""Rows without padding: their real tokens laid end to end, a prompt that several rows share laid down once.

Linear layers work on the N tokens; attention alone sees rows again: `Packing.attend` takes one after the other where
that pays, else it puts tokens of like rows side by side, and lets each see what comes before it in its own row.
Letters: docs/conventions.md; G rows of a block, R rows that go on from a shared prompt, C tokens that such a row may
see, H heads of width E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from heedful.fast.attention import Row, row_by_row, row_by_row_pays, side_by_side

WORTH = 0.1  # share of the tokens that must be saved for a shared prompt to be computed apart
# How many times its shortest row a block may be long: on a GPU one block more costs more than padding in attention.
STRETCH = {"cpu": 1.25, "cuda": 4.0}
# On a CPU so many tokens are filled up to a multiple of the other: a product of a new number of rows costs oneDNN a
# millisecond and 0.6 MiB.
MANY, ROUND = 1024, 32


@dataclass(frozen=True)
class Block:
    """G rows of like length, each sees itself alone. `source` [G S]: the token at each place; `slots`: its inverse."""

    rows: int
    source: Tensor
    slots: Tensor

    def pad(self, x_NX: Tensor) -> Tensor:
        """[G S X]. What stands in the padding is some real token: finite, and without gradient."""
        if len(self.source) != len(self.slots):
            x_NX = _Pad.apply(x_NX, self.source, self.slots)
        return x_NX.view(self.rows, -1, *x_NX.shape[1:])

    def lay(self, x_GSX: Tensor) -> Tensor:
        x_NX = x_GSX.flatten(0, 1)
        return x_NX if len(self.source) == len(self.slots) else _Lay.apply(x_NX, self.slots)


@dataclass(frozen=True)
class Branches:
    """R rows that go on from shared prompts: a block of their own tokens, and a mask of 0 and -inf over the C tokens
    that stand before them.
    """

    own: Block
    bias_RTC: Tensor


@dataclass(frozen=True)
class Packing:
    """N tokens with their positions, the last `spare` ones in no row. `place_BS`: where the token of each row and
    position lies (padding: anywhere). They are laid in groups of rows of like length: `trunks`, whole or prompts of
    several, then the `tails` that go on from such prompts.
    """

    ids_N: Tensor
    positions_N: Tensor
    place_BS: Tensor
    trunks: list[list[Row]]
    tails: list[list[Row]]
    spare: int

    @cached_property
    def rows(self) -> list[Row]:
        return [row for group in (*self.trunks, *self.tails) for row in group]

    @cached_property
    def reach(self) -> float:
        """Length of a token's row with the prompt before it, in the mean."""
        pairs = sum((row.stop - row.start) * (row.before + row.stop - row.start) for row in self.rows)
        return pairs / max(1, len(self.ids_N) - self.spare)

    @cached_property
    def blocks(self) -> list[Block]:
        return [_block(group, self.ids_N.device) for group in self.trunks]

    @cached_property
    def branches(self) -> list[Branches]:
        return [_branches(group, self.ids_N.device) for group in self.tails]

    @cached_property
    def seen_M(self) -> Tensor:
        """The R x C tokens that all branches see, one branch after the other."""
        return torch.cat([_seen(group) for group in self.tails]).to(self.ids_N.device)

    def by_rows(self, width: int, dtype: torch.dtype) -> bool:
        """Whether attention takes one row after the other, for queries of all heads together of that width."""
        return self.ids_N.device.type == "cpu" and row_by_row_pays(width, self.reach, dtype)

    def attend(self, q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float, at_M: Tensor | None = None) -> Tensor:
        """Causal attention within each row: out_NHE. Where it goes `by_rows`, queries and out can be those of the M
        tokens `at_M` alone, in ascending order.
        """
        if at_M is not None or self.by_rows(q_NHE.shape[1] * q_NHE.shape[2], q_NHE.dtype):
            return row_by_row(q_NHE, k_NHE, v_NHE, self.rows, scale, at_M)
        if len(self.blocks) == 1 and not self.branches and not self.spare:
            return _within(self.blocks[0], q_NHE, k_NHE, v_NHE, scale)
        sizes = [len(block.slots) for block in self.blocks]
        sizes += [len(branches.own.slots) for branches in self.branches] + [self.spare]
        q, k, v = (x_NHE.split(sizes) for x_NHE in (q_NHE, k_NHE, v_NHE))
        outs = [_within(block, q[i], k[i], v[i], scale) for i, block in enumerate(self.blocks)]
        if self.branches:
            counts = [branches.own.rows * branches.bias_RTC.shape[2] for branches in self.branches]
            # embedding, not indexing: its backward pass adds up the gradients of a prompt's tokens over the rows fast
            seen_k, seen_v = (
                F.embedding(self.seen_M, x.flatten(1)).view(-1, *x.shape[1:]).split(counts) for x in (k_NHE, v_NHE)
            )
            rest = zip(self.branches, q[len(self.blocks) : -1], seen_k, seen_v, strict=True)
            outs += [_beyond(*each, scale) for each in rest]
        return torch.cat([*outs, torch.zeros_like(q[-1])])


def pack(ids_BS: Tensor, lengths: Sequence[int], prompts: Sequence[int], firsts: Sequence[int]) -> Packing:
    """Rows of `lengths` real tokens, right-padded; row b has the same first `prompts[b]` tokens as row `firsts[b]`."""
    count = [0] * len(lengths)
    for first in firsts:
        count[first] += 1
    saved = sum(prompts[b] for b, first in enumerate(firsts) if first != b)
    share = saved > WORTH * sum(lengths)
    trunk = {
        b: prompts[b] if share and count[b] > 1 else n for b, n in enumerate(lengths) if not share or firsts[b] == b
    }
    after = [b for b in range(len(lengths)) if share and count[firsts[b]] > 1]
    tail = {b: lengths[b] - prompts[b] for b in after if lengths[b] > prompts[b]}
    device, S = ids_BS.device, ids_BS.shape[1]
    place_BS = torch.zeros(ids_BS.shape, dtype=torch.long)
    from_N: list[Tensor] = []
    total = 0

    def lay(b: int, first: int, last: int, prompt: int = 0) -> Row:
        nonlocal total
        row = Row(total, total + last - first, prompt, first)
        place_BS[b, first:last] = torch.arange(row.start, row.stop)
        from_N.append(torch.arange(b * S + first, b * S + last))
        total = row.stop
        return row

    stretch = STRETCH[device.type]
    trunks = [[lay(b, 0, trunk[b]) for b in group] for group in _alike(trunk, stretch)]
    begins = place_BS[:, :1].flatten().tolist()
    for b in after:
        place_BS[b, : prompts[b]] = place_BS[firsts[b], : prompts[b]]
    tails = [[lay(b, prompts[b], lengths[b], begins[firsts[b]]) for b in group] for group in _alike(tail, stretch)]
    spare = -total % ROUND if device.type == "cpu" and total >= MANY else 0
    token_N = torch.cat([*from_N, torch.zeros(spare, dtype=torch.long)]).to(device)
    return Packing(ids_BS.flatten()[token_N], token_N % S, place_BS.to(device), trunks, tails, spare)


def _alike(lengths: dict[int, int], stretch: float) -> list[list[int]]:
    """Rows by length, longest first, cut where the longest would be more than `stretch` times the next."""
    parts: list[list[int]] = []
    for b in sorted(lengths, key=lambda b: -lengths[b]):
        if parts and stretch * lengths[b] >= lengths[parts[-1][0]]:
            parts[-1].append(b)
        else:
            parts.append([b])
    return parts


def _block(rows: list[Row], device: torch.device) -> Block:
    """Of rows that lie one after the other; counts from the first one's first token."""
    starts_G1, stops_G1 = (
        torch.tensor(x)[:, None] - rows[0].start for x in zip(*(row[:2] for row in rows), strict=True)
    )
    tokens_GS = starts_G1 + torch.arange(int((stops_G1 - starts_G1).max()))
    real_GS = tokens_GS < stops_G1
    source = torch.where(real_GS, tokens_GS, 0).flatten()
    return Block(len(rows), source.to(device), real_GS.flatten().nonzero().squeeze(1).to(device))


def _branches(rows: list[Row], device: torch.device) -> Branches:
    own = _block(rows, device)
    return Branches(own, _sight(own, _before(rows)).to(device))


def _before(rows: list[Row]) -> Tensor:
    """[R P]: whether the prompt before a row has so many tokens."""
    before_R1 = torch.tensor([row.before for row in rows])[:, None]
    return torch.arange(int(before_R1.max())) < before_R1


def _seen(rows: list[Row]) -> Tensor:
    """The tokens that rows of a group see, on the CPU: the prompt's P places of a row, then its T, and so on."""
    before_RP, own = _before(rows), _block(rows, torch.device("cpu"))
    prompts_R1 = torch.tensor([row.prompt for row in rows])[:, None]
    shared_RP = torch.where(before_RP, prompts_R1 + torch.arange(before_RP.shape[1]), 0)
    return torch.cat([shared_RP, rows[0].start + own.source.view(own.rows, -1)], dim=1).flatten()


def _sight(own: Block, before_RP: Tensor) -> Tensor:
    """bias_RTC: 0 where a token sees another, -inf where not; the prompt's P places first, then the row's own T."""
    T = len(own.source) // own.rows
    causal_TT = torch.ones(T, T, dtype=torch.bool).tril()
    mask_RTC = torch.cat([before_RP[:, None].expand(-1, T, -1), causal_TT.expand(own.rows, -1, -1)], dim=2)
    return torch.zeros(mask_RTC.shape).masked_fill_(~mask_RTC, -torch.inf)


def _within(block: Block, q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float) -> Tensor:
    q, k, v = (block.pad(x).transpose(1, 2) for x in (q_NHE, k_NHE, v_NHE))
    return block.lay(side_by_side(q, k, v, None, scale).transpose(1, 2))


def _beyond(branches: Branches, q_MHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float) -> Tensor:
    q = branches.own.pad(q_MHE).transpose(1, 2)
    k, v = (x.view(branches.own.rows, -1, *x.shape[1:]).transpose(1, 2) for x in (k_NHE, v_NHE))
    bias = branches.bias_RTC[:, None].to(q.dtype)
    return branches.own.lay(side_by_side(q, k, v, bias, scale).transpose(1, 2))


class _Pad(torch.autograd.Function):
    """Tokens to places: each token has one place, so that the gradient is fetched and not added up."""

    @staticmethod
    def forward(ctx: Any, x_NX: Tensor, source: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return x_NX.index_select(0, source)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _Lay(torch.autograd.Function):
    """Places to tokens: the gradient of padding is 0."""

    @staticmethod
    def forward(ctx: Any, x_MX: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.places = len(x_MX)
        return x_MX.index_select(0, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slots,) = ctx.saved_tensors
        whole = grads[0].new_zeros(ctx.places, *grads[0].shape[1:])
        return whole.index_copy_(0, slots, grads[0]), None
