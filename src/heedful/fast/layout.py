"""Rows without padding: the real tokens of all rows laid end to end, a prompt that several rows share laid down once.

Two rows that share the prompt [a b c], and one row of its own:

    row 0: a b c d e        tokens  0 1 2 3 4 5 6 7 8          groups
    row 1: a b c f          ids     a b c g h i d e f          [a b c  g h i]   the shared prompt, and a whole row
    row 2: g h i            positions 0 1 2 0 1 2 3 4 3        [d e]  [f]       rows that continue the prompt

Layers work on all N tokens at once. Only attention looks at rows: `Layout.rows` says where each row lies and which
prompt it continues. Letters: docs/conventions.md. G rows of a group, T own tokens a row, C tokens that a row may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WORTH = 0.1  # a shared prompt is computed once only if that saves this share of the tokens
# A group's longest row has at most STRETCH times the tokens of its shortest. On a GPU, padding costs less than one
# more group.
STRETCH = {"cpu": 1.25, "cuda": 4.0}
# On a CPU, N is rounded up to a multiple of ROUND from MANY tokens on. Each new N costs oneDNN a millisecond and
# 0.6 MiB.
MANY, ROUND = 1024, 32


class PackedRow(NamedTuple):
    """Tokens [start, stop) of one row. They see each other causally.

    Before that they see a prompt that an earlier row holds: the `before` tokens from `prompt` on.
    """

    start: int
    stop: int
    prompt: int
    before: int


@dataclass(frozen=True)
class Layout:
    """N tokens with their positions. The last `spare` tokens belong to no row.

    `place_BS`: the token that holds each row and position of the padded batch (at padding: any token).
    `groups`: neighbouring rows of similar length, first whole rows and shared prompts, then the rows that continue a
    shared prompt. `wanted_M`: the tokens, in ascending order, whose last hidden state will be read (None: all).
    """

    ids_N: Tensor
    positions_N: Tensor
    place_BS: Tensor
    groups: list[list[PackedRow]]
    spare: int
    wanted_M: Tensor | None = None

    @cached_property
    def rows(self) -> list[PackedRow]:
        return [row for group in self.groups for row in group]

    @cached_property
    def reach(self) -> float:
        """Mean length of a token's row, its shared prompt included."""
        pairs = sum((row.stop - row.start) * (row.before + row.stop - row.start) for row in self.rows)
        return pairs / max(1, len(self.ids_N) - self.spare)

    @cached_property
    def blocks(self) -> list[Block]:
        """Every group as a padded block."""
        return [_block(group, self.ids_N.device) for group in self.groups]

    @cached_property
    def bounds(self) -> Bounds:
        """The rows for an attention kernel of variable lengths."""
        return _bounds(self.rows, self.ids_N.device)


@dataclass(frozen=True)
class Block:
    """A group as G padded rows: T places for queries, C places for keys and values.

    `source` [G T]: the token at each place, at padding the first token of the group. `slots`: the place of each token,
    the inverse of `source`. `seen` [G C]: the token at each place of the keys, first P places for the prompt and then
    the row's own T. None where no row continues a prompt, since then C = T and `source` serves both.
    `positions_GT` and `positions_GC`: positions within the row, at padding of the keys one that no query sees.
    """

    rows: int
    first: int
    source: Tensor
    slots: Tensor
    seen: Tensor | None
    positions_GT: Tensor
    positions_GC: Tensor
    biases: dict[int | None, Tensor] = field(default_factory=dict, repr=False)

    def pad(self, x_nX: Tensor) -> Tensor:
        """[G T X] of the group's n tokens. Padding holds some token of the group, so that it is finite."""
        if len(self.source) != len(self.slots):
            x_nX = _Pad.apply(x_nX, self.source, self.slots)
        return x_nX.view(self.rows, -1, *x_nX.shape[1:])

    def see(self, x_NX: Tensor) -> Tensor:
        """[G C X] of all N tokens: what the rows see. Gradients of a shared prompt add up over its rows."""
        assert self.seen is not None
        # F.embedding adds up gradients faster than indexing does
        seen: Tensor = F.embedding(self.seen, x_NX.flatten(1)).view(self.rows, -1, *x_NX.shape[1:])
        return seen

    def lay(self, x_GTX: Tensor) -> Tensor:
        """The group's n tokens of [G T X]."""
        x = x_GTX.flatten(0, 1)
        return x if len(self.source) == len(self.slots) else _Lay.apply(x, self.slots)

    def bias_GTC(self, window: int | None) -> Tensor:
        """0 where a query sees a key and -inf elsewhere, for the `window` last tokens or all. Computed once a pass."""
        if window not in self.biases:
            ahead = self.positions_GT[:, :, None] - self.positions_GC[:, None]
            hidden = ahead < 0 if window is None else (ahead < 0) | (ahead >= window)
            self.biases[window] = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)
        return self.biases[window]


@dataclass(frozen=True)
class Bounds:
    """Cumulative lengths, as `torch.nn.attention.varlen.varlen_attn` wants them.

    `gather`: the token at each place of keys and values. None where every row sees itself alone.
    """

    queries: Tensor
    keys: Tensor
    longest_query: int
    longest_key: int
    gather: Tensor | None


def pack(ids_BS: Tensor, lengths: Sequence[int], prompts: Sequence[int], firsts: Sequence[int]) -> Layout:
    """Lay out B right-padded rows of `lengths` real tokens.

    The first `prompts[b]` tokens of row b are those of row `firsts[b]`, which may be row b itself.
    """
    device, S = ids_BS.device, ids_BS.shape[1]
    # 1) Which rows are laid down whole, which as a shared prompt (trunk), and which continue one (tail)?
    sharing = [0] * len(lengths)
    for first in firsts:
        sharing[first] += 1
    saved = sum(prompts[b] for b, first in enumerate(firsts) if first != b)
    share = saved > WORTH * sum(lengths)
    trunk = {
        b: prompts[b] if share and sharing[b] > 1 else n for b, n in enumerate(lengths) if not share or firsts[b] == b
    }
    after = [b for b in range(len(lengths)) if share and sharing[firsts[b]] > 1]
    tail = {b: lengths[b] - prompts[b] for b in after if lengths[b] > prompts[b]}
    # 2) Lay them one after the other, rows of similar length next to each other.
    place_BS = torch.zeros(ids_BS.shape, dtype=torch.long)
    from_N: list[Tensor] = []
    total = 0

    def lay(b: int, first: int, last: int, prompt: int = 0) -> PackedRow:
        nonlocal total
        row = PackedRow(total, total + last - first, prompt, first)
        place_BS[b, first:last] = torch.arange(row.start, row.stop)
        from_N.append(torch.arange(b * S + first, b * S + last))
        total = row.stop
        return row

    stretch = STRETCH[device.type]
    trunks = [[lay(b, 0, trunk[b]) for b in group] for group in _alike(trunk, stretch)]
    # 3) Every row of a shared prompt finds the prompt's tokens where its first row laid them.
    for b in after:
        place_BS[b, : prompts[b]] = place_BS[firsts[b], : prompts[b]]
    begins = place_BS[:, :1].flatten().tolist()
    tails = [[lay(b, prompts[b], lengths[b], begins[b]) for b in group] for group in _alike(tail, stretch)]
    spare = -total % ROUND if device.type == "cpu" and total >= MANY else 0
    token_N = torch.cat([*from_N, torch.zeros(spare, dtype=torch.long)]).to(device)
    return Layout(ids_BS.flatten()[token_N], token_N % S, place_BS.to(device), trunks + tails, spare)


def _alike(lengths: dict[int, int], stretch: float) -> list[list[int]]:
    """Rows by length, longest first. A new group starts where the longest has over `stretch` times the next."""
    parts: list[list[int]] = []
    for b in sorted(lengths, key=lambda b: -lengths[b]):
        if parts and stretch * lengths[b] >= lengths[parts[-1][0]]:
            parts[-1].append(b)
        else:
            parts.append([b])
    return parts


def _block(rows: list[PackedRow], device: torch.device) -> Block:
    """Rows that lie one after the other, as a block.

    Rows [0, 3) and [3, 5) give T = 3 and `source` 0 1 2 3 4 0, `slots` 0 1 2 3 4. The place after 4 is padding.
    """
    first = rows[0].start
    starts_G1, stops_G1, prompts_G1, before_G1 = (torch.tensor(x)[:, None] for x in zip(*rows, strict=True))
    tokens_GT = starts_G1 + torch.arange(int((stops_G1 - starts_G1).max()))
    real_GT = tokens_GT < stops_G1
    own_GT = torch.where(real_GT, tokens_GT - first, 0)
    positions_GT = before_G1 + torch.arange(tokens_GT.shape[1])
    # a query at padding sees what the row's last token sees: one that sees nothing would make NaN of its softmax
    positions_GT = torch.minimum(positions_GT, before_G1 + stops_G1 - starts_G1 - 1)
    never = torch.iinfo(torch.long).max // 2  # a position that no query reaches
    keys_GC = torch.where(real_GT, positions_GT, never)
    seen = None
    if int(before_G1.max()):
        places_P = torch.arange(int(before_G1.max()))
        there_GP = places_P < before_G1
        seen = torch.cat([torch.where(there_GP, prompts_G1 + places_P, 0), first + own_GT], dim=1).flatten()
        keys_GC = torch.cat([torch.where(there_GP, places_P, never), keys_GC], dim=1)
    slots = real_GT.flatten().nonzero().squeeze(1)
    return Block(
        len(rows), first, own_GT.flatten().to(device), slots.to(device),
        None if seen is None else seen.to(device), positions_GT.to(device), keys_GC.to(device),
    )  # fmt: skip


def _bounds(rows: list[PackedRow], device: torch.device) -> Bounds:
    own = [row.stop - row.start for row in rows]
    both = [row.before + row.stop - row.start for row in rows]
    gather = None
    if own != both:
        spans = [span for row in rows for span in ((row.prompt, row.prompt + row.before), (row.start, row.stop))]
        gather = torch.cat([torch.arange(*span) for span in spans]).to(device)
    queries, keys = (torch.tensor([0, *x], device=device).cumsum(0).to(torch.int32) for x in (own, both))
    return Bounds(queries, keys, max(own), max(both), gather)


class _Pad(torch.autograd.Function):
    """Tokens to places. Each token has one place, so the backward pass fetches gradients and adds nothing up."""

    @staticmethod
    def forward(ctx: Any, x_nX: Tensor, source: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return x_nX.index_select(0, source)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return grads[0].index_select(0, slots), None, None


class _Lay(torch.autograd.Function):
    """Places to tokens. The gradient at padding is 0."""

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
