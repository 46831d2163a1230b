"""Which positions are real, and what happens to the rest. Letters, alignment and masks: docs/conventions.md."""

from __future__ import annotations

import torch
from torch import Tensor


def truncate_at_eos(responses_BT: Tensor, eos_id: int, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keep everything through the first EOS, pad after it (P7): (responses_BT, lengths_B, has_eos_B).

    A length counts the EOS. A row without EOS keeps all T tokens and has_eos is False there.
    """
    assert eos_id != pad_id, "pad and end-of-text are different ids"
    is_eos_BT = responses_BT == eos_id
    after_eos_BT = is_eos_BT.cumsum(-1) > is_eos_BT
    truncated_BT = responses_BT.masked_fill(after_eos_BT, pad_id)
    return truncated_BT, (~after_eos_BT).sum(-1), is_eos_BT.any(-1)


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
