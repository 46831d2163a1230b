"""The one place where an engine is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from heedful.config import UserError
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Compute
from heedful.models import adapters, load, streamed, vocabulary
from heedful.rollout.http import HttpEngine
from heedful.rollout.local import LocalEngine
from heedful.rollout.types import Engine


def open_engine(model: Any, tokenizer: PreTrainedTokenizerBase, compute: Compute) -> LocalEngine:
    """An engine that samples from the weights that `model` has at each call, on its device, in `compute.dtype`.

    `compute.fast`: whether the fast decoder may stand in for the model's own forward.
    """
    return LocalEngine(model, tokenizer, getattr(torch, compute.dtype), compute.fast)


def open_policy_engine(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    compute: Compute,
    settings: EngineConfig,
    once: Callable[[Callable[[], None]], None],
) -> Engine:
    """The engine that samples from a policy in training: this process, or servers that get its weights (`once`)."""
    if settings.kind == "local":
        if settings.urls:
            raise UserError("engine.urls: addresses are for engine.kind = vllm or sglang. Name one, or leave them out")
        if settings.sleep:
            raise UserError("engine.sleep: for servers alone. Leave it out, or take engine.kind = vllm")
        return open_engine(model, tokenizer, compute)
    if settings.sleep and settings.kind != "vllm":
        raise UserError(f"engine.sleep: {settings.kind} servers do not sleep. Leave it out, or take kind = vllm")
    if settings.sleep and settings.sync == "group":
        raise UserError("engine.sleep: on one GPU two processes cannot join a group. Take sync = file or adapter")
    if not settings.urls:
        raise UserError(f"engine.kind {settings.kind}: give the addresses of running servers as engine.urls")
    if settings.sync == "adapter" and not adapters.found(model):
        raise UserError("engine.sync adapter: the policy has no adapter. Give lora.rank, or take sync = file")
    if settings.sync == "adapter" and adapters.in_4_bits(model):
        raise UserError("engine.sync adapter: the server's base is not in 4 bits, as the policy's is. Take sync = file")
    if settings.sync == "group" and settings.kind != "vllm":
        raise UserError(f"engine.sync group: {settings.kind} gets its weights as files. Take sync = file")
    if settings.sync == "group" and not streamed.is_plain(model):
        raise UserError("engine.sync group: this model's files hold other tensors than its modules. Take sync = file")
    return HttpEngine(model, tokenizer, getattr(torch, compute.dtype), settings, once)


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
