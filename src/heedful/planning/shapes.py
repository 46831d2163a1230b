"""The shape of a model: counts that follow from its config.json. No weights are read."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from heedful.config import UserError
from heedful.configs.pretrain import PretrainConfig
from heedful.configs.shared import Lora
from heedful.models import fresh, load
from heedful.runs.manifest import adapters, model_path

LIGER = ("llama", "mistral", "qwen2", "qwen3")
"""Families with two RMS norms and a gated MLP in each layer, all of which Liger replaces."""
NAMED = Path(__file__).parent / "models.toml"
# What transformers raises for a config that it cannot read or build
_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError)


@dataclass(frozen=True)
class ModelShape:
    """Numbers of parameters and widths. `body` counts all but the head, the embedding included."""

    name: str
    body: int
    head: int
    """Parameters of a head of its own for text. 0 where it is tied to the embedding."""
    layer: int
    """Parameters of the largest layer."""
    linear: tuple[tuple[str, int, int], ...]
    """(last part of the name, inputs, outputs) of each linear layer of the body."""
    layers: int
    width: int
    heads: int
    queries: int
    """Width of all heads of queries together."""
    keys: int
    """Width of all heads of keys together."""
    inner: int
    vocabulary: int
    context: int
    head_norms: bool
    """Whether queries and keys are normalised, as in Qwen3."""
    family: str = ""
    """`model_type` of its config."""
    low: bool = False
    """Whether its files are in bfloat16."""

    @property
    def for_liger(self) -> bool:
        """Whether the plan knows what Liger's kernels keep in its layers."""
        return self.family in LIGER

    @property
    def policy(self) -> int:
        """Parameters of a model that writes text."""
        return self.body + self.head

    @property
    def scorer(self) -> int:
        """Parameters of a reward or value model."""
        return self.body + self.width

    @property
    def table(self) -> int:
        """Parameters of the embedding, or of the head."""
        return self.vocabulary * self.width

    @property
    def products(self) -> int:
        """Weights of the linear layers of the body: each costs a multiplication for each token."""
        return sum(inputs * outputs for _, inputs, outputs in self.linear)

    def adapters(self, lora: Lora) -> int:
        """Parameters of the matrices that LoRA trains."""
        wanted = set(lora.targets)
        return sum(
            lora.rank * (inputs + outputs) for name, inputs, outputs in self.linear if not wanted or name in wanted
        )


@cache
def named() -> dict[str, dict[str, Any]]:
    """The configs that heedful knows by name."""
    return tomllib.loads(NAMED.read_text("utf-8"))


def shape_of(ref: str, use: Literal["any", "text", "reward"] = "any") -> ModelShape:
    """The shape of a model: a known name, a run, a folder, or a hub name in the cache. Raises UserError for any other.

    Of an adapter it is that of its base. `use`: what it must be good for, to write text or as the start of a reward
    model.
    """
    for name, values in named().items():
        if not Path(ref).exists() and ref in (name, *values["hub"]):
            return _known(name)
    where = model_path(ref)
    if found := adapters(where):
        return shape_of(found[-1][1], use)
    try:
        config = AutoConfig.from_pretrained(where, local_files_only=True, trust_remote_code=False)
    except _ERRORS as error:
        if (Path(where) / "config.json").exists():
            said = " ".join(str(error).split())[:100]
            raise UserError(f"{ref}: its config.json cannot be read ({said})") from None
        known = ", ".join(named())
        raise UserError(
            f"{ref}: no config.json of this model is here or in the hub's cache. Name a folder, or a shape: {known}"
        ) from None
    if use == "text":
        load.check_kind(ref, config, "policy")
    elif use == "reward":
        load.check_start(ref, config)
    return of_config(config, ref)


@cache
def _known(name: str) -> ModelShape:
    values = {key: value for key, value in named()[name].items() if key != "hub"}
    return of_config(AutoConfig.for_model(values.pop("model_type"), **values), name)


def to_pretrain(config: PretrainConfig) -> ModelShape:
    """The shape of a new model to pretrain."""
    return of_config(fresh.config_of(config, config.vocab_size), "a new model")


def of_config(config: Any, name: str) -> ModelShape:
    """The shape of a config: the body is built on the meta device, where tensors have no memory."""
    try:
        with torch.device("meta"):
            body = AutoModel.from_config(config, trust_remote_code=False)
    except _ERRORS as error:
        said = " ".join(str(error).split())[:100]
        raise UserError(f"{name}: its shape cannot be read from config.json ({said})") from None
    return of_body(body, name)


def of_body(body: Any, name: str) -> ModelShape:
    """The shape of a model without its head."""
    config = body.config.get_text_config()
    table = body.get_input_embeddings().weight.numel()
    width, heads = config.hidden_size, config.num_attention_heads
    each = getattr(config, "head_dim", None) or width // heads
    linear = tuple(
        (name.rpartition(".")[2], *_ends(module))
        for name, module in body.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    )
    layers = [
        max(map(_count, module)) for module in body.modules() if isinstance(module, nn.ModuleList) and len(module)
    ]
    contexts = (getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "max_seq_len"))
    return ModelShape(
        name=name,
        body=_count(body),
        head=0 if getattr(config, "tie_word_embeddings", True) else table,
        layer=max(layers, default=_count(body)),
        linear=linear,
        layers=config.num_hidden_layers,
        width=width,
        heads=heads,
        queries=heads * each,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * each,
        inner=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width,
        vocabulary=config.vocab_size,
        context=next((limit for limit in contexts if isinstance(limit, int) and limit > 0), 1 << 30),
        family=config.model_type,
        low=str(getattr(config, "dtype", None)).endswith("bfloat16"),
        head_norms=any(name.endswith("q_norm") for name, _ in body.named_modules()),
    )


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _ends(module: Any) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer. transformers' Conv1D keeps its weight the other way round."""
    rows, columns = module.weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)
