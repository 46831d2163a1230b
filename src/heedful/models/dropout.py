"""Dropout of Hugging Face models: 0 everywhere (P17), or residual dropout where SFT asks for it (S1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from heedful.config import UserError

# Names of residual dropout, which acts on what a layer adds to the residual stream. Architectures keep it as an
# attribute inside a decoder layer, or in the config.
_RESIDUAL_DROPOUT = {
    "dropout",
    "hidden_dropout",
    "post_attention_dropout",
    "post_mlp_dropout",
    "resid_pdrop",
    "resid_attn_dropout",
    "resid_dropout",
    "resid_mlp_dropout",
    "residual_dropout",
}


def set_dropout(model: Any, p: float) -> Any:
    """Set residual dropout to `p` (S1) and every other dropout to 0. Returns the model.

    Raises UserError for p > 0 if the architecture has no residual dropout. Llama, Qwen, Gemma and Mistral have none:
    their dropout is in the attention.
    """
    if not 0.0 <= p < 1.0:
        raise UserError(f"dropout {p}: must be at least 0 and less than 1")
    if p > 0 and not has_dropout(model):
        raise UserError(f"dropout {p}: {type(model).__name__} has no residual dropout. Set dropout=0.")
    for holder, field, residual in _dropouts(model):
        setattr(holder, field, p if residual else 0.0)
    return model


@torch.no_grad()
def has_dropout(model: Any) -> bool:
    """Whether the architecture has residual dropout. Compares two forward passes with it."""
    before = [(holder, field, getattr(holder, field)) for holder, field, _ in _dropouts(model)]
    training = model.training
    ids_BS = torch.zeros(1, 4, dtype=torch.long, device=model.device)
    for holder, field, residual in _dropouts(model):
        setattr(holder, field, 0.5 if residual else 0.0)
    model.train()
    try:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            first, second = (model(input_ids=ids_BS, use_cache=False).logits for _ in range(2))
    finally:
        model.train(training)
        for holder, field, value in before:
            setattr(holder, field, value)
    return not torch.equal(first, second)


def _dropouts(model: Any) -> Iterator[tuple[Any, str, bool]]:
    """Every dropout of a model and its config: (object, field with the probability, whether it is residual)."""
    for name, module in model.named_modules():
        in_layer = any(part.isdigit() for part in name.split("."))
        for attribute, child in module.named_children():
            if isinstance(child, nn.Dropout):
                yield child, "p", in_layer and attribute in _RESIDUAL_DROPOUT
        for attribute in _numbers_named_dropout(module):
            yield module, attribute, in_layer and attribute in _RESIDUAL_DROPOUT
    for config in {id(part): part for part in (model.config, model.config.get_text_config())}.values():
        for attribute in _numbers_named_dropout(config):
            yield config, attribute, attribute in _RESIDUAL_DROPOUT


def _numbers_named_dropout(holder: object) -> list[str]:
    return [name for name, value in vars(holder).items() if "drop" in name and type(value) in (float, int)]
