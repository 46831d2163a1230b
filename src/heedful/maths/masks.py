"""Which positions are real, and what happens to the rest. Letters, alignment and masks: docs/conventions.md."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths_B: Tensor, T: int) -> Tensor:
    """mask_BT, True at the first `lengths_B` positions of each row."""
    return torch.arange(T, device=lengths_B.device) < lengths_B[:, None]


def position_ids(mask_BS: Tensor) -> Tensor:
    """Number of real tokens before each position (P6): exclusive cumulative sum, right for padding on either side."""
    mask_BS = mask_BS.long()
    return mask_BS.cumsum(-1) - mask_BS


def penalise_missing_eos(scores_B: Tensor, has_eos_B: Tensor, penalty: float) -> Tensor:
    """Replace the score of a response without EOS by `penalty` (P7: replaced, not subtracted)."""
    return torch.where(has_eos_B, scores_B, penalty)


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """x where the mask is True and 0 elsewhere, in at least float32 (P5).

    A selection, not a product, so that neither value nor gradient of a padded position (NaN included) gets through.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))
