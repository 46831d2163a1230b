"""The most probable tokens at each place, under the plain logits: of answers as they are sampled, and of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heedful.fast.api import eval_mode
from heedful.models import scoring
from heedful.rollout.types import Top


def tops(logits_NV: Tensor, tokens_N: Tensor, most: int) -> list[Top]:
    """A `Top` for each token, with the `most` most probable ones."""
    logprobs_NV = logits_NV.float().log_softmax(-1)
    chosen_N = logprobs_NV.gather(-1, tokens_N[:, None]).squeeze(-1).tolist()
    values_NK, ids_NK = logprobs_NV.topk(min(most, logprobs_NV.shape[-1]), dim=-1)
    rows = zip(chosen_N, ids_NK.tolist(), values_NK.tolist(), strict=True)
    return [Top(chosen, list(zip(ids, values, strict=True))) for chosen, ids, values in rows]


@torch.no_grad()
def of_prompt(engine: Any, ids: Sequence[int], most: int) -> list[Top]:
    """A `Top` for each token of a prompt but the first, which nothing predicts. `engine`: a `local.LocalEngine`."""
    model, found = engine.computing(), []
    tokens_S = torch.tensor([list(ids)], device=model.device)
    with eval_mode(engine.model):
        if scoring.head_is_exact(model):
            states_SD, head = (
                model.base_model(input_ids=tokens_S, use_cache=False).last_hidden_state[0],
                model.get_output_embeddings(),
            )
        else:
            states_SD, head = model(input_ids=tokens_S, use_cache=False).logits[0], torch.nn.Identity()
        size = max(1, scoring.MAX_LOGITS // engine.ids.rows)
        for start in range(0, len(ids) - 1, size):
            states_ND = states_SD[start : min(start + size, len(ids) - 1)]
            predicted_N = tokens_S[0, start + 1 : start + 1 + len(states_ND)]
            found += tops(engine.ids.logits(head(states_ND)), predicted_N, most)
    return found
