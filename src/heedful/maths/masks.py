"""Masks of real positions, and selection by them. Letters, alignment and masks: docs/conventions.md."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths_B: Tensor, T: int) -> Tensor:
    """Mask mask_BT that is True at the first `lengths_B` positions of each row."""
    return torch.arange(T, device=lengths_B.device) < lengths_B[:, None]


def position_ids(mask_BS: Tensor) -> Tensor:
    """Position of each token: the number of real tokens before it (P6). Right for padding on either side.

    >>> position_ids(torch.tensor([[False, False, True, True]])).tolist()
    [[0, 0, 0, 1]]
    """
    mask_BS = mask_BS.long()
    return mask_BS.cumsum(-1) - mask_BS


def penalise_missing_eos(scores_B: Tensor, has_eos_B: Tensor, penalty: float) -> Tensor:
    """Replace, not lower, the score of each response without an end-of-text token by `penalty` (P7)."""
    return torch.where(has_eos_B, scores_B, penalty)


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """Select x where the mask is True, and 0 elsewhere, in at least float32 (P5).

    Unlike a product with the mask, this stops values and gradients of padded positions even if they are NaN.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))
