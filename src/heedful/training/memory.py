"""How much memory a run will need. It is shown before the first step, and refused if the machine has less.

The estimate is for one rank. Models, and what is loaded next to them, are in memory already when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from heedful.config import UserError
from heedful.configs.shared import TrainingCompute
from heedful.fast import decoder, roots, rows
from heedful.models import scoring, shards
from heedful.training import launcher
from heedful.training.parallel import Ranks


@dataclass(frozen=True)
class Sampled:
    """What a stage samples: `rows` in flight, each with a prompt and an answer of at most `columns` tokens together."""

    rows: int
    columns: int


@dataclass(frozen=True)
class Shape:
    """The largest step of a stage."""

    tokens: int
    """Tokens of all rows of a step, padding included. No pass has more."""
    longest: int
    """Tokens of the longest row."""
    losses: int = 1
    """Losses of a step. Each has backward passes of its own."""
    sampled: Sampled | None = None


@dataclass(frozen=True)
class Plan:
    """Bytes. `weights` are there already. Of the rest, `activations` and `cache` are needed one after the other."""

    weights: int
    optimiser: int
    gradients: int
    activations: int
    cache: int
    available: int

    @property
    def to_come(self) -> int:
        return self.optimiser + self.gradients + max(self.activations, self.cache)

    def __str__(self) -> str:
        return (
            f"memory: weights {amount(self.weights)}, still to come optimiser {amount(self.optimiser)}, gradients "
            f"{amount(self.gradients)}, activations up to {amount(self.activations)}, sampling up to "
            f"{amount(self.cache)}; {amount(self.available)} free"
        )

    def check(self, where: str) -> None:
        """Raise UserError if more is needed than is free."""
        if self.to_come <= self.available:
            return
        fixed = self.optimiser + self.gradients
        if fixed > self.available:
            remedy = "This model is too large for this machine. Take a smaller one, or more memory"
        elif self.activations >= self.cache:
            remedy = "Lower compute.micro_tokens, or use --compute.activation-checkpointing"
        else:
            remedy = "Lower generation.max_rows or generation.max_new_tokens"
        raise UserError(
            f"{where}: needs about {amount(self.to_come)} of memory beyond the weights, {amount(self.available)} are "
            f"free. {remedy}"
        )


def plan(trained: Sequence[nn.Module], shape: Shape, compute: TrainingCompute, ranks: Ranks) -> Plan:
    """The plan of a stage that trains these transformers models in steps of this shape."""
    parameters = list({id(p): p for model in trained for p in model.parameters()}.values())
    learning = sum(shards.local(p).numel() for p in parameters if p.requires_grad)
    gathered = max(_gathered(model, ranks) for model in trained) if ranks.shards is not None else 0
    return Plan(
        weights=sum(shards.local(p).numel() * p.element_size() for p in parameters),
        optimiser=8 * learning,
        gradients=_gradient_bytes(shape, compute, ranks) * learning + gathered,
        activations=max(_activations(model, shape, compute, ranks) for model in trained),
        cache=max(_cache(model, shape.sampled, ranks) for model in trained) if shape.sampled is not None else 0,
        available=available(ranks),
    )


def _gradient_bytes(shape: Shape, compute: TrainingCompute, ranks: Ranks) -> int:
    """Bytes of gradients per parameter.

    4 for those of the last pass. In float32 several passes or ranks are summed in float64: 8 more. Ranks lay the sum
    out in one piece, next to what it is made of: as much again.
    """
    if ranks.dtype != torch.float32:
        return 4 + 4 * (ranks.size > 1 and ranks.shards is None)
    if ranks.size > 1 and ranks.shards is None:
        return 4 + 8 + 8
    return 4 + 8 if shape.tokens > compute.micro_tokens or shape.losses > 1 else 4


def _gathered(model: nn.Module, ranks: Ranks) -> int:
    """Bytes of what a pass gathers of a sharded model, with its gradients before they are cut.

    That is all outside of layers, and the layer that runs with the one that comes next.
    """
    sizes = {id(p): p.numel() for p in model.parameters()}
    layers = [layer for layer in model.modules() if roots.is_shard(layer) and layer is not model]
    each = [sum({id(p): sizes[id(p)] for p in layer.parameters()}.values()) for layer in layers]
    outside = sum(sizes.values()) - sum(each)
    return int((ranks.dtype.itemsize + 4) * (outside + 2 * max(each, default=0)))


def available(ranks: Ranks) -> int:
    if ranks.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(ranks.device)
        reserved = torch.cuda.memory_reserved(ranks.device) - torch.cuda.memory_allocated(ranks.device)
        return int(free + reserved)
    on_this_machine = launcher.on_this_machine()
    return int(psutil.virtual_memory().available) // on_this_machine


def _activations(model: Any, shape: Shape, compute: TrainingCompute, ranks: Ranks) -> int:
    """Bytes that the largest forward pass keeps for its backward pass."""
    config = model.config.get_text_config()
    width, layers, vocabulary = config.hidden_size, config.num_hidden_layers, config.vocab_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    tokens = min(compute.micro_tokens, shape.tokens)
    size = 2 if ranks.dtype == torch.bfloat16 else 4
    layer = 4 * 14 * width + size * 3 * inner  # norms, rotary embeddings and the residual stream stay float32
    if ranks.device.type == "cpu":  # attention weights
        layer += 4 * config.num_attention_heads * min(rows.MOST, shape.longest)
    kept = size * layers * width + layer if compute.activation_checkpointing else layers * layer
    return int(tokens * kept + 2 * 4 * min(tokens * vocabulary, scoring.MAX_LOGITS))


def _cache(model: Any, sampled: Sampled, ranks: Ranks) -> int:
    """Bytes of keys and values of the rows in flight, and of the copies of the weights that a rollout reads.

    One copy is in the precision of the rollout, if that is another. One more is reordered for the decoder.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    per_token = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    trained, sampling = next(model.parameters()).element_size(), ranks.dtype.itemsize
    weights = sampling * sum(p.numel() for p in model.parameters())
    copied = (weights if sampling != trained or ranks.shards is not None else 0) + (
        weights if weights <= decoder.COPIED_BYTES else 0
    )
    cached = trained if ranks.device.type == "cpu" else sampling  # on a CPU the decoder keeps float32
    return int(sampled.rows * sampled.columns * per_token * cached) + copied


def amount(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
