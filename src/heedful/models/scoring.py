"""Log-probabilities, values and rewards of given tokens. Letters, alignment and masks: docs/conventions.md.

One pass through the body serves all positions. Only the hidden states that count go on to the head. All functions carry
gradients unless called under `torch.no_grad()`. Results are float32, and 0 at padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from heedful.config import UserError
from heedful.fast import api as fast
from heedful.fast.api import gathered, whole_forward
from heedful.maths import logprobs as maths
from heedful.maths.masks import length_mask
from heedful.models import encoders, heads
from heedful.models.batches import Batch, in_order, micro_batches
from heedful.models.ids import ids_of
from heedful.models.shards import is_shard

# Logits held at a time. A batch with more is cut into parts, whose logits are recomputed in the backward pass.
MAX_LOGITS = 1 << 26


def response_logprobs(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """logprobs_BT of the response tokens under logits / temperature, in nats (P4, P5)."""
    mask_BT = batch.response_mask_BT
    tokens_N = batch.response_tokens_BT[mask_BT]
    head_alone = _reads_head(model)

    def compute() -> Tensor:
        states_ND, head = _before_head(model, batch, mask_BT, head_alone)
        return _scatter(_through_head(model, states_ND, tokens_N, head, temperature), mask_BT)

    return gathered(model, compute)


def response_loss(model: Any, batch: Batch) -> Tensor:
    """Sum of -log-prob over the response tokens to learn from (S1), in nats. The fast path keeps no logits."""
    mask_BT = batch.learned_mask_BT
    tokens_N = batch.response_tokens_BT[mask_BT]
    head_alone = _reads_head(model)

    def compute() -> Tensor:
        states_ND, head = _before_head(model, batch, mask_BT, head_alone)
        ids = ids_of(model)
        loss = None if ids.holes else fast.head_loss(head, states_ND, tokens_N, ids.end)
        if loss is not None:
            return loss
        return -_through_head(model, states_ND, tokens_N, head, 1.0).sum()

    return gathered(model, compute)


def rewards(model: Any, batch: Batch) -> Tensor:
    """scores_B of a reward model: read at the last real token (R1), its bias added (R5)."""
    if not heads.reads_last_token(model):
        return gathered(model, lambda: _own_scores(model, batch))
    return gathered(model, lambda: _scores(model, _last_states(model, batch)))


def last_states(model: Any, batch: Batch) -> Tensor:
    """states_BD of a reward model's body, before the head, where the score is read."""
    return gathered(model, lambda: _last_states(model, batch))


def _last_states(model: Any, batch: Batch) -> Tensor:
    last_B1 = _last_read(model, batch)[:, None]
    return _states(model, batch, last_B1, torch.ones_like(last_B1, dtype=torch.bool))


def _last_read(model: Any, batch: Batch) -> Tensor:
    """last_B: the position at which a score is read."""
    unread = heads.unread(model)
    if unread is None:
        return batch.lengths_B - 1
    S = batch.input_ids_BS.shape[1]
    read_BS = length_mask(batch.lengths_B, S) & (batch.input_ids_BS != unread)
    return (read_BS * torch.arange(S, device=read_BS.device)).argmax(1)


def _own_scores(model: Any, batch: Batch) -> Tensor:
    """scores_B by the model's own forward: a classifier that pools in its own way, as encoders do."""
    mask_BS = length_mask(batch.lengths_B, batch.input_ids_BS.shape[1]).long()
    types = encoders.token_types(model, batch)
    logits_B1 = whole_forward(model, input_ids=batch.input_ids_BS, attention_mask=mask_BS, **types).logits
    if logits_B1.dim() != 2 or logits_B1.shape[1] != 1:
        raise UserError(f"{type(model).__name__} has no scalar head. Give a reward model")
    return logits_B1[:, 0].float() + heads.reward_bias(model)


def values(model: Any, batch: Batch) -> Tensor:
    """values_BT of a value net: [:, t] is read before response token t is seen (P4), its bias added (P16)."""
    mask_BT = batch.response_mask_BT

    def compute() -> Tensor:
        return _scatter(_scores(model, _states(model, batch, batch.predecessors_BT, mask_BT)), mask_BT)

    return gathered(model, compute)


def passes(model: Any, lengths: Sequence[int], max_tokens: int, ranks: int = 1) -> list[list[int]]:
    """Rows cut into passes of at most `max_tokens`, as indices.

    On packed rows they stay in order, so that a prompt is computed once for its completions, and there is a pass for
    each rank. Else rows of similar length share a pass.
    """
    if not fast.path(model).packed:
        return micro_batches(lengths, max_tokens=max_tokens)
    return in_order(lengths, max_tokens, ranks)


def _reads_head(model: Any) -> bool:
    """Whether logits are computed from hidden states by the head alone. Tried before any weight is gathered."""
    return fast.path(model).fast and head_is_exact(model)


def _before_head(model: Any, batch: Batch, mask_BT: Tensor, head_alone: bool) -> tuple[Tensor, Any]:
    """(states_ND that predict the response tokens of the mask, the module that turns them into logits_NV of all rows).

    Where the head alone does not give the model's logits, or the fast path is off, the states are the logits of the
    model's own forward and the module changes nothing.
    """
    if head_alone:
        return _states(model, batch, batch.predecessors_BT, mask_BT), model.get_output_embeddings()
    logits_BSV = whole_forward(model, input_ids=batch.input_ids_BS, use_cache=False).logits
    return _gather(logits_BSV, batch.predecessors_BT, mask_BT), nn.Identity()


def _states(model: Any, batch: Batch, index_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """states_ND of the body at the positions `index_BT` of each row where the mask is True."""
    if fast.path(model).packed:
        return fast.states_at(model, batch.layout, batch.layout.place_BS.gather(1, index_BT)[mask_BT])
    return _gather(hidden_states(model, batch.input_ids_BS), index_BT, mask_BT)


def hidden_states(model: Any, input_ids_BS: Tensor) -> Tensor:
    """hidden_BSD of the body. Right-padded causal rows need no attention mask, and positions count from 0."""
    states_BSD: Tensor = model.base_model(input_ids=input_ids_BS, use_cache=False).last_hidden_state
    return states_BSD


def head_is_exact(model: Any) -> bool:
    """Whether logits = head(hidden states), without soft cap or scale: tried once a model, then remembered."""
    known: bool | None = getattr(model, "_heedful_head_is_exact", None)
    if known is None:
        known = _try_head(model)
        model._heedful_head_is_exact = known
    return known


@torch.no_grad()
def _try_head(model: Any) -> bool:
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    ids_BS = (torch.arange(1, 9, device=model.device) % _width(model))[None]
    with fast.eval_mode(model):
        expected_BSV = model(input_ids=ids_BS, use_cache=False).logits.float()
        actual_BSV = gathered(model, lambda: head(hidden_states(model, ids_BS))).float()
    return actual_BSV.shape == expected_BSV.shape and torch.allclose(actual_BSV, expected_BSV, rtol=1e-4, atol=1e-4)


def _width(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _through_head(model: Any, states_ND: Tensor, tokens_N: Tensor, head: Any, temperature: float) -> Tensor:
    """logprobs_N, computed in parts of at most MAX_LOGITS logits."""
    ids = ids_of(model)

    def part(some_ND: Tensor, some_N: Tensor) -> Tensor:
        return maths.token_logprobs(ids.logits(fast.head_logits(head, some_ND, ids.end)), some_N, temperature)

    rows = max(1, MAX_LOGITS // ids.rows)
    if len(tokens_N) <= rows:
        return part(states_ND, tokens_N)
    pieces = zip(states_ND.split(rows), tokens_N.split(rows), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])
    return torch.cat([part(*piece) for piece in pieces])


def _scores(model: Any, states_ND: Tensor) -> Tensor:
    """The scalar head and its bias in float32: a lower precision would round scores to a few bits."""
    if not heads.reads_last_token(model):
        raise UserError(f"{type(model).__name__} has no value for each token. Give a model with a linear head")
    weight, bias = model.score.weight, model.score.bias
    with torch.autocast(states_ND.device.type, enabled=False):
        if is_shard(model.score):
            return model.score(states_ND.float()).squeeze(-1) + heads.reward_bias(model)
        scores_N = F.linear(states_ND.float(), weight.float(), None if bias is None else bias.float()).squeeze(-1)
    return scores_N + heads.reward_bias(model)


def _gather(states_BSX: Tensor, index_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """states_NX at the N True positions of the mask."""
    B, S, X = states_BSX.shape
    flat_BT = index_BT + torch.arange(B, device=index_BT.device)[:, None] * S
    return states_BSX.reshape(B * S, X).index_select(0, flat_BT[mask_BT])


def _scatter(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    return torch.zeros(mask_BT.shape, dtype=values_N.dtype, device=values_N.device).masked_scatter(mask_BT, values_N)
