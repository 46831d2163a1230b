"""The one place where an engine is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from heedful.configs.shared import Compute
from heedful.models import load, vocabulary
from heedful.rollout.local import LocalEngine


def open_engine(model: Any, tokenizer: PreTrainedTokenizerBase, compute: Compute) -> LocalEngine:
    """An engine that samples from the weights that `model` has at each call, on its device, in `compute.dtype`.

    `compute.fast`: whether the fast decoder may stand in for the model's own forward.
    """
    return LocalEngine(model, tokenizer, getattr(torch, compute.dtype), compute.fast)


def load_engine(
    ref: str, compute: Compute, device: torch.device, *, trust_remote_code: bool, template: Mapping[str, Any]
) -> tuple[LocalEngine, PreTrainedTokenizerBase]:
    """(engine, tokenizer) of a causal LM that only samples: a run, a directory or a hub name.

    `template`: arguments of its chat template.
    """
    dtype = getattr(torch, compute.dtype)
    model, tokenizer = load.load_policy(ref, dtype=dtype, trust_remote_code=trust_remote_code)
    vocabulary.use_template(model, tokenizer, template)
    return open_engine(load.place(model, device, compute), tokenizer, compute), tokenizer
