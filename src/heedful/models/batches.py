"""Padded batches. Letters, alignment and masks: docs/conventions.md.

For scoring and training, sequences are right-padded: under a causal mask no real token can see the padding, so no
attention mask is needed. Left padding exists for the rollout's prompts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heedful.fast.api import Layout, pack
from heedful.maths.logprobs import predecessors
from heedful.maths.masks import length_mask
from heedful.maths.padding import right_pad

ENOUGH = 1024  # tokens from which on one pass more costs less than padding


@dataclass(frozen=True)
class Batch:
    """Prompt + response per row, right-padded: ids [B S], total lengths [B], prompt lengths [B] (at least 1).

    `firsts`: for each row the first one with the same prompt, where that is known.
    """

    input_ids_BS: Tensor
    lengths_B: Tensor
    prompt_lengths_B: Tensor
    firsts: tuple[int, ...] | None = None
    learned_BT: Tensor | None = None
    """Response tokens to learn from, where that is not all of them."""

    def __len__(self) -> int:
        return self.input_ids_BS.shape[0]

    @cached_property
    def T(self) -> int:
        """Tokens of the longest response."""
        return int((self.lengths_B - self.prompt_lengths_B).max()) if len(self) else 0

    @cached_property
    def response_mask_BT(self) -> Tensor:
        return length_mask(self.lengths_B - self.prompt_lengths_B, self.T)

    @cached_property
    def learned_mask_BT(self) -> Tensor:
        """The response tokens of which a loss is taken."""
        return self.response_mask_BT if self.learned_BT is None else self.response_mask_BT & self.learned_BT

    @cached_property
    def predecessors_BT(self) -> Tensor:
        """Where the hidden state that predicts response token t stands. Past a row's end, any valid position."""
        return predecessors(self.prompt_lengths_B, self.T).clamp(max=self.input_ids_BS.shape[1] - 1)

    @cached_property
    def response_tokens_BT(self) -> Tensor:
        """Response ids. Past a row's end, any valid id."""
        index_BT = (self.predecessors_BT + 1).clamp(max=self.input_ids_BS.shape[1] - 1)
        return self.input_ids_BS.gather(1, index_BT)

    @cached_property
    def layout(self) -> Layout:
        """The same rows without padding."""
        firsts = range(len(self)) if self.firsts is None else self.firsts
        return pack(self.input_ids_BS, self.lengths_B.tolist(), self.prompt_lengths_B.tolist(), firsts)

    def to(self, device: torch.device | str) -> Batch:
        if self.input_ids_BS.device == torch.device(device):
            return self
        ids_BS, lengths_B, prompts_B = (
            x.to(device) for x in (self.input_ids_BS, self.lengths_B, self.prompt_lengths_B)
        )
        learned_BT = None if self.learned_BT is None else self.learned_BT.to(device)
        return Batch(ids_BS, lengths_B, prompts_B, self.firsts, learned_BT)


def collate(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    pad_id: int | None,
    learned: Sequence[Sequence[bool] | None] = (),
) -> Batch:
    """One row per (prompt, response). Prompts are not empty. A response may be. `pad_id`: None takes any id.

    `learned`: for each row the response tokens to learn from, None for all.
    """
    assert all(prompt_ids), "a prompt needs at least one token"
    rows = [[*prompt, *response] for prompt, response in zip(prompt_ids, response_ids, strict=True)]
    ids_BS, lengths_B = right_pad(rows, pad_id or 0)
    seen: dict[tuple[int, ...], int] = {}
    firsts = tuple(seen.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompt_ids))
    learned_BT = None
    if any(learned):
        masks = [mask or [True] * len(response) for mask, response in zip(learned, response_ids, strict=True)]
        learned_BT = right_pad(masks, 0)[0].bool()
    return Batch(ids_BS, lengths_B, torch.tensor([len(prompt) for prompt in prompt_ids]), firsts, learned_BT)


def in_order(lengths: Sequence[int], max_tokens: int, ranks: int = 1) -> list[list[int]]:
    """Neighbouring rows as parts of at most `max_tokens`, as indices. There is a part for each rank if there are rows.

    A row longer than that is a part of its own.
    """
    most = min(max_tokens, -(-sum(lengths) // ranks))
    parts: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if not parts or length > room:
            parts.append([])
            room = most
        parts[-1].append(index)
        room -= length
    return parts


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Parts of at most `max_tokens` padded tokens, as lists of indices, longest rows first.

    Rows of similar length share a part, so that little is padding: a part with ENOUGH tokens takes no row that would be
    padded by more than a quarter. A row longer than `max_tokens` is a part of its own.
    """
    parts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        part = parts[-1] if parts else []
        too_wide = bool(part) and (len(part) + 1) * lengths[part[0]] > max_tokens
        uneven = bool(part) and len(part) * lengths[part[0]] >= ENOUGH and 1.25 * lengths[index] < lengths[part[0]]
        if not part or too_wide or uneven:
            parts.append([index])
        else:
            part.append(index)
    return parts
