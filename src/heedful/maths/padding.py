"""Rows of different lengths as one padded tensor. Letters: docs/conventions.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heedful.maths.masks import length_mask


def right_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """(ids_BS, lengths_B), real tokens first."""
    lengths_B = torch.tensor([len(row) for row in rows], dtype=torch.long)
    S = int(lengths_B.max()) if len(rows) else 0
    ids_BS = torch.full((len(rows), S), pad_id)
    ids_BS[length_mask(lengths_B, S)] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    return ids_BS.to(device), lengths_B.to(device)


def left_pad(
    rows: Sequence[Sequence[int]], pad_id: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """(ids_BP, mask_BP), real tokens last (P6)."""
    ids_BP, lengths_B = right_pad([row[::-1] for row in rows], pad_id, device)
    return ids_BP.flip(1), length_mask(lengths_B, ids_BP.shape[1]).flip(1)
