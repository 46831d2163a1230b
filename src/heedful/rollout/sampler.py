"""One token per row from logits and one uniform draw per row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from heedful.config import NonFinite
from heedful.configs.shared import Generation


def sample(logits_NV: Tensor, draws_N: Tensor, settings: Generation) -> tuple[Tensor, Tensor]:
    """(tokens_N, logprobs_N float32): the first token whose cumulative probability exceeds the draw (in [0, 1)).

    The log-probability is that of logits / temperature, untouched by top-k and top-p; at temperature 0, of the logits.
    Raises NonFinite where the logits hold a NaN or +inf.
    """
    logits_NV = logits_NV.float()
    if settings.temperature not in (0.0, 1.0):
        logits_NV = logits_NV / settings.temperature
    top_N = logits_NV.amax(-1, keepdim=True)
    weights_NV = (logits_NV - top_N).exp_()
    total_N = weights_NV.sum(-1)
    if not total_N.isfinite().all():
        raise NonFinite("a logit of the sampled policy")
    if settings.temperature == 0.0:
        tokens_N = logits_NV.argmax(-1)
    else:
        kept_NV = _truncate(weights_NV, settings) if settings.truncated else weights_NV
        tokens_N = _invert(kept_NV, draws_N)
    chosen_N = logits_NV.gather(-1, tokens_N[:, None])
    return tokens_N, (chosen_N - top_N).squeeze(-1) - total_N.log()


def _invert(weights_NV: Tensor, draws_N: Tensor) -> Tensor:
    """Inverse of the cumulative distribution, in float64: first the block of about sqrt(V) tokens, then the token."""
    N, V = weights_NV.shape
    width = max(1, int(V**0.5))
    blocks = -(-V // width)
    weights_NGW = F.pad(weights_NV, (0, blocks * width - V)).view(N, blocks, width)
    upto_NG = weights_NGW.sum(-1, dtype=torch.float64).cumsum(-1)
    target_N1 = draws_N[:, None] * upto_NG[:, -1:]  # below the total even for the largest float64 draw under 1
    block_N1 = torch.searchsorted(upto_NG, target_N1, right=True)
    before_N1 = F.pad(upto_NG, (1, 0)).gather(-1, block_N1)
    within_NW = weights_NGW.gather(1, block_N1[..., None].expand(N, 1, width)).squeeze(1).double().cumsum(-1)
    # the block's own sum may round below its share: then it is the last token that adds to it
    target_N1 = (target_N1 - before_N1).minimum(within_NW[:, -1:] * (1 - 2**-52))
    return (block_N1 * width + torch.searchsorted(within_NW, target_N1, right=True)).squeeze(-1)


def _truncate(weights_NV: Tensor, settings: Generation) -> Tensor:
    """Zero all but the top_k largest weights, then all but the fewest whose share of the rest reaches top_p."""
    ordered_NV, index_NV = weights_NV.sort(dim=-1, descending=True, stable=True)
    if settings.top_k > 0:
        ordered_NV[:, settings.top_k :] = 0.0
    if settings.top_p < 1.0:
        before_NV = ordered_NV.cumsum(-1, dtype=torch.float64) - ordered_NV
        ordered_NV = ordered_NV.masked_fill(before_NV >= settings.top_p * ordered_NV.sum(-1, keepdim=True), 0.0)
    return torch.zeros_like(weights_NV).scatter_(-1, index_NV, ordered_NV)
