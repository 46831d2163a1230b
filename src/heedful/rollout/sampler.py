"""One token per row from logits, one uniform draw and the settings of each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from heedful.config import NonFinite
from heedful.configs.shared import Generation

COLDEST = 1e-6
"""Lower temperatures count as this one. It draws the most probable token, and logits divided by less could overflow."""


def sample(logits_NV: Tensor, draws_N: Tensor, settings: Sequence[Generation]) -> tuple[Tensor, Tensor]:
    """(tokens_N, logprobs_N float32): the first token whose cumulative probability exceeds the draw (in [0, 1)).

    Each row has its own settings. The log-probability is that of logits / temperature, without top-k and top-p. At
    temperature 0, of the logits. Raises NonFinite if the logits hold a NaN or +inf.
    """
    kinds = list({id(one): one for one in settings}.values())  # most rows share one object
    logits_NV = logits_NV.float()
    # 1) Weights exp(logits / temperature), the largest of each row 1.
    if any(one.temperature not in (0.0, 1.0) for one in kinds):
        divisors = [max(one.temperature, COLDEST) if one.temperature else 1.0 for one in settings]
        logits_NV = logits_NV / logits_NV.new_tensor(divisors)[:, None]
    top_N1 = logits_NV.amax(-1, keepdim=True)
    weights_NV = (logits_NV - top_N1).exp_()
    total_N = weights_NV.sum(-1)
    if not total_N.isfinite().all():
        raise NonFinite("a logit of the sampled policy")
    # 2) Zero what top-k and top-p leave out, in the rows that have them.
    if any(one.truncated for one in kinds):
        cut_M = torch.tensor([row for row, one in enumerate(settings) if one.truncated], device=logits_NV.device)
        weights_NV[cut_M] = _truncate(weights_NV[cut_M], [one for one in settings if one.truncated])
    # 3) Draw, or take the largest where the temperature is 0.
    tokens_N = logits_NV.argmax(-1) if any(one.temperature == 0.0 for one in kinds) else None
    if tokens_N is None or any(one.temperature for one in kinds):
        drawn_N = _invert(weights_NV, draws_N)
        if tokens_N is not None:
            greedy_N = torch.tensor([one.temperature == 0.0 for one in settings], device=logits_NV.device)
            drawn_N = torch.where(greedy_N, tokens_N, drawn_N)
        tokens_N = drawn_N
    chosen_N1 = logits_NV.gather(-1, tokens_N[:, None])
    return tokens_N, (chosen_N1 - top_N1).squeeze(-1) - total_N.log()


def _invert(weights_NV: Tensor, draws_N: Tensor) -> Tensor:
    """Inverse of the cumulative distribution, in float64: first the block of about sqrt(V) tokens, then the token."""
    N, V = weights_NV.shape
    width = max(1, int(V**0.5))
    blocks = -(-V // width)
    if more := blocks * width - V:
        weights_NV = F.pad(weights_NV, (0, more))
    weights_NGW = weights_NV.view(N, blocks, width)
    upto_NG = weights_NGW.sum(-1, dtype=torch.float64).cumsum(-1)
    target_N1 = draws_N[:, None] * upto_NG[:, -1:]  # below the total even for the largest float64 draw under 1
    block_N1 = torch.searchsorted(upto_NG, target_N1, right=True)
    before_N1 = F.pad(upto_NG, (1, 0)).gather(-1, block_N1)
    within_NW = weights_NGW.gather(1, block_N1[..., None].expand(N, 1, width)).squeeze(1).double().cumsum(-1)
    # the block's own sum may round below its share: then it is the last token that adds to it
    target_N1 = (target_N1 - before_N1).minimum(within_NW[:, -1:] * (1 - 2**-52))
    return (block_N1 * width + torch.searchsorted(within_NW, target_N1, right=True)).squeeze(-1)


def _truncate(weights_MV: Tensor, settings: Sequence[Generation]) -> Tensor:
    """Zero all but a row's top_k largest weights, then all but the fewest whose share of the rest reaches top_p."""
    ordered_MV, index_MV = weights_MV.sort(dim=-1, descending=True, stable=True)
    V, device = weights_MV.shape[1], weights_MV.device
    top_k_M1 = torch.tensor([one.top_k or V for one in settings], device=device)[:, None]
    top_p_M1 = torch.tensor([one.top_p for one in settings], dtype=torch.float64, device=device)[:, None]
    ordered_MV = ordered_MV.masked_fill(torch.arange(V, device=device) >= top_k_M1, 0.0)
    before_MV = ordered_MV.cumsum(-1, dtype=torch.float64) - ordered_MV
    outside_MV = (before_MV >= top_p_M1 * ordered_MV.sum(-1, keepdim=True)) & (top_p_M1 < 1)
    return torch.zeros_like(weights_MV).scatter_(-1, index_MV, ordered_MV.masked_fill(outside_MV, 0.0))
