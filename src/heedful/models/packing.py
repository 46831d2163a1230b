"""Rows without padding: their real tokens laid end to end, a prompt that several rows share laid down once.

Linear layers work on the N tokens; attention alone sees rows again: `Packing.attend` puts tokens of like rows side by
side, lets each see what comes before it in its own row, and lays the results end to end. Letters: docs/conventions.md;
G rows of a block, R rows that go on from a shared prompt, C tokens that such a row may see, H heads of width E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WORTH = 0.1  # share of the tokens that must be saved for a shared prompt to be computed apart
# How many times its shortest row a block may be long: on a GPU one block more costs more than padding in attention.
STRETCH = {"cpu": 1.25, "cuda": 4.0}
# Tokens of a row up to which attention on a CPU is plain products: the fused kernel is slower and saves little memory.
SHORT = 128
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
    position lies (padding: anywhere); `seen_M`: the R x C tokens that all branches see, one branch after the other.
    """

    ids_N: Tensor
    positions_N: Tensor
    place_BS: Tensor
    blocks: list[Block]
    branches: list[Branches]
    seen_M: Tensor
    spare: int

    def attend(self, q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float) -> Tensor:
        """Causal attention within each row: out_NHE."""
        if len(self.blocks) == 1 and not self.branches and not self.spare:
            return _within(self.blocks[0], q_NHE, k_NHE, v_NHE, scale)
        sizes = [len(block.slots) for block in self.blocks]
        sizes += [len(branches.own.slots) for branches in self.branches] + [self.spare]
        q, k, v = (x_NHE.split(sizes) for x_NHE in (q_NHE, k_NHE, v_NHE))
        outs = [_within(block, q[i], k[i], v[i], scale) for i, block in enumerate(self.blocks)]
        if self.branches:
            seen = [b.own.rows * b.bias_RTC.shape[2] for b in self.branches]
            # embedding, not indexing: its backward pass adds up the gradients of a prompt's tokens over the rows fast
            seen_k, seen_v = (
                F.embedding(self.seen_M, x.flatten(1)).view(-1, *x.shape[1:]).split(seen) for x in (k_NHE, v_NHE)
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
    tails = [b for b in range(len(lengths)) if share and count[firsts[b]] > 1]
    device, S = ids_BS.device, ids_BS.shape[1]
    place_BS = torch.zeros(ids_BS.shape, dtype=torch.long)
    from_N: list[Tensor] = []
    blocks, total = [], 0
    stretch = STRETCH[device.type]
    for rows in _alike(trunk, stretch):
        widths = [trunk[b] for b in rows]
        block, places = _block(widths, total)
        for b, at in zip(rows, places, strict=True):
            place_BS[b, : len(at)] = at
            from_N.append(b * S + torch.arange(len(at)))
        blocks.append(block)
        total += sum(widths)
    for b in tails:
        place_BS[b, : prompts[b]] = place_BS[firsts[b], : prompts[b]]
    branches, seen = [], [torch.empty(0, dtype=torch.long)]
    for rows in _alike({b: lengths[b] - prompts[b] for b in tails if lengths[b] > prompts[b]}, stretch):
        own, places = _block([lengths[b] - prompts[b] for b in rows], total)
        for b, at in zip(rows, places, strict=True):
            place_BS[b, prompts[b] : lengths[b]] = at
            from_N.append(b * S + prompts[b] + torch.arange(len(at)))
        before_RP = torch.arange(max(prompts[b] for b in rows)) < torch.tensor([prompts[b] for b in rows])[:, None]
        branches.append(Branches(own, _sight(own, before_RP)))
        shared_RP = torch.where(before_RP, place_BS[rows, : before_RP.shape[1]], 0)
        seen.append(torch.cat([shared_RP, total + own.source.view(own.rows, -1)], dim=1).flatten())
        total += len(own.slots)
    spare = -total % ROUND if device.type == "cpu" and total >= MANY else 0
    token_N = torch.cat([*from_N, torch.zeros(spare, dtype=torch.long)])
    ids_N = ids_BS.flatten()[token_N.to(device)]
    whole = Packing(ids_N, token_N % S, place_BS, blocks, branches, torch.cat(seen), spare)
    return whole if device.type == "cpu" else _to(whole, device)


def _alike(lengths: dict[int, int], stretch: float) -> list[list[int]]:
    """Rows by length, longest first, cut where the longest would be more than `stretch` times the next."""
    parts: list[list[int]] = []
    for b in sorted(lengths, key=lambda b: -lengths[b]):
        if parts and stretch * lengths[b] >= lengths[parts[-1][0]]:
            parts[-1].append(b)
        else:
            parts.append([b])
    return parts


def _block(widths: list[int], start: int) -> tuple[Block, list[Tensor]]:
    """Rows of `widths` tokens, laid from token `start` on: their block, counting from 0, and where each lies."""
    S = max(widths, default=0)
    widths_G = torch.tensor(widths, dtype=torch.long)
    before_G = widths_G.cumsum(0) - widths_G
    steps_S = torch.arange(S)
    source_GS = torch.where(steps_S < widths_G[:, None], before_G[:, None] + steps_S, 0)
    slots_N = (steps_S < widths_G[:, None]).flatten().nonzero().squeeze(1)
    places = [start + before + torch.arange(width) for before, width in zip(before_G.tolist(), widths, strict=True)]
    return Block(len(widths), source_GS.flatten(), slots_N), places


def _sight(own: Block, before_RP: Tensor) -> Tensor:
    """bias_RTC: 0 where a token sees another, -inf where not; the prompt's P places first, then the row's own T."""
    T = len(own.source) // own.rows
    causal_TT = torch.ones(T, T, dtype=torch.bool).tril()
    mask_RTC = torch.cat([before_RP[:, None].expand(-1, T, -1), causal_TT.expand(own.rows, -1, -1)], dim=2)
    return torch.zeros(mask_RTC.shape).masked_fill_(~mask_RTC, -torch.inf)


def _within(block: Block, q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float) -> Tensor:
    q, k, v = (block.pad(x).transpose(1, 2) for x in (q_NHE, k_NHE, v_NHE))
    return block.lay(_attention(q, *_heads(q, k, v), None, scale).transpose(1, 2))


def _beyond(branches: Branches, q_MHE: Tensor, k_NHE: Tensor, v_NHE: Tensor, scale: float) -> Tensor:
    q = branches.own.pad(q_MHE).transpose(1, 2)
    k, v = (x.view(branches.own.rows, -1, *x.shape[1:]).transpose(1, 2) for x in (k_NHE, v_NHE))
    bias = branches.bias_RTC[:, None].to(q.dtype)
    return branches.own.lay(_attention(q, *_heads(q, k, v), bias, scale).transpose(1, 2))


def _attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Of q [G H S E] over k and v [G H C E] with a mask of 0 and -inf; None: causal."""
    if q.device.type == "cpu" and q.dtype == torch.float32 and k.shape[2] <= SHORT:
        out: Tensor = _Short.apply(q, k, v, bias, scale)
        return out
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, scale=scale)


def _heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values once for each head of the queries."""
    times = q.shape[1] // k.shape[1]
    return (k, v) if times == 1 else (k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))


def _to(packing: Packing, device: torch.device) -> Packing:
    def block(b: Block) -> Block:
        return Block(b.rows, b.source.to(device), b.slots.to(device))

    def branch(b: Branches) -> Branches:
        return Branches(block(b.own), b.bias_RTC.to(device))

    return Packing(
        packing.ids_N.to(device), packing.positions_N.to(device), packing.place_BS.to(device),
        [block(b) for b in packing.blocks],
        [branch(b) for b in packing.branches], packing.seen_M.to(device), packing.spare,
    )  # fmt: skip


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
