"""What a run will hold in memory, said before its first step, and refused where the machine has less.

Estimated from shapes, for one rank: models and what is loaded beside them are in memory already when this is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from heedful.config import Config, UserError
from heedful.training.parallel import Ranks

LOGITS = 1 << 26  # held at a time, at most (models.scoring.MAX_LOGITS)
RANKED = 9  # answers in a ranking, as many as the paper had
SEEN = 512  # tokens for which a query's attention weights are kept, in the mean and at most (fast.rows.MOST)
COPIED = 1 << 30  # bytes of weights that a rollout reorders, at most (fast.decoder.COPIED_BYTES)


@dataclass(frozen=True)
class Plan:
    """Bytes. `weights` are there already; the rest is still to come, `activations` and `cache` one after the other."""

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
            f"memory: weights {_size(self.weights)}, still to come optimiser {_size(self.optimiser)}, gradients "
            f"{_size(self.gradients)}, activations up to {_size(self.activations)}, sampling up to "
            f"{_size(self.cache)}; {_size(self.available)} free"
        )

    def check(self, where: str) -> None:
        """Raises UserError where more is to come than is free."""
        if self.to_come <= self.available:
            return
        fixed = self.optimiser + self.gradients
        if fixed > self.available:
            remedy = "this model is too large for this machine: take a smaller one or more memory"
        elif self.activations >= self.cache:
            remedy = "lower compute.micro_tokens or --set compute.activation_checkpointing=true"
        else:
            remedy = "lower generation.max_rows or generation.max_new_tokens"
        raise UserError(
            f"{where}: needs about {_size(self.to_come)} of memory beyond the weights, {_size(self.available)} are "
            f"free; {remedy}"
        )


def plan(trained: Iterable[nn.Module], config: Config, ranks: Ranks) -> Plan:
    """For the models that a stage trains, under its `compute`, `generation` and batch settings."""
    models = list(trained)
    parameters = [p for model in models for p in model.parameters()]
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    micro = [model for model in models if hasattr(model, "config")]
    return Plan(
        weights=sum(p.numel() * p.element_size() for p in parameters),
        optimiser=8 * learning,
        gradients=_of_gradients(config, models, ranks) * learning,
        activations=max((_activations(model.config, config, ranks) for model in micro), default=0),
        cache=max((_cache(model, config, ranks) for model in micro), default=0),
        available=available(ranks),
    )


def _of_gradients(config: Any, models: list[Any], ranks: Ranks) -> int:
    """Bytes a parameter: those of the last pass, and where several passes or ranks are added up in float64 (what is
    computed in float32) their sum; ranks lay it out in one piece, beside what it is made of.
    """
    if ranks.dtype != torch.float32:
        return 4 + 4 * (ranks.size > 1)
    if ranks.size > 1:
        return 4 + 8 + 8
    shapes = [model.config.get_text_config() for model in models if hasattr(model, "config")]
    passes = any(_rows(config) * _context(shape) > config.compute.micro_tokens for shape in shapes)
    return 4 + 8 if passes or getattr(config, "pretrain_data", None) is not None else 4


def available(ranks: Ranks) -> int:
    if ranks.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(ranks.device)
        reserved = torch.cuda.memory_reserved(ranks.device) - torch.cuda.memory_allocated(ranks.device)
        return int(free + reserved)
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(psutil.virtual_memory().available) // on_this_machine


def _activations(shape: Any, config: Any, ranks: Ranks) -> int:
    """Of the largest forward pass that the settings allow, kept for its backward pass."""
    shape = shape.get_text_config()
    width, layers, vocabulary = shape.hidden_size, shape.num_hidden_layers, shape.vocab_size
    inner = getattr(shape, "intermediate_size", None) or 4 * width
    tokens = min(config.compute.micro_tokens, _rows(config) * _context(shape))
    size = 2 if ranks.dtype == torch.bfloat16 else 4
    layer = 4 * 14 * width + size * 3 * inner  # norms, rotary embeddings and the residual stream stay float32
    if ranks.device.type == "cpu":
        layer += 4 * shape.num_attention_heads * min(SEEN, _context(shape))
    kept = size * layers * width + layer if config.compute.activation_checkpointing else layers * layer
    return int(tokens * kept + 2 * 4 * min(tokens * vocabulary, LOGITS))


def _cache(model: Any, config: Any, ranks: Ranks) -> int:
    """Keys and values of the rows in flight, and the weights as a rollout reads them: laid out anew, before that in its
    precision.
    """
    generation = getattr(config, "generation", None)
    if generation is None or getattr(config, "select_with", "") is None:
        return 0
    shape = model.config.get_text_config()
    heads = shape.num_attention_heads
    width = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    kept = 2 * shape.num_hidden_layers * (getattr(shape, "num_key_value_heads", None) or heads) * width
    rows = min(generation.max_rows, getattr(config, "rollout_batch", generation.max_rows))
    columns = min(_context(shape), config.max_prompt_tokens + generation.max_new_tokens)
    size = next(model.parameters()).element_size()
    sampled = ranks.dtype.itemsize if hasattr(config, "rollout_batch") else size
    weights = sampled * sum(p.numel() for p in model.parameters())
    copied = (weights if sampled != size else 0) + (weights if weights <= COPIED else 0)
    cached = size if ranks.device.type == "cpu" else sampled  # fast.decoder keeps float32 on a CPU
    return int(rows * columns * kept * cached) + copied


def _rows(config: Any) -> int:
    """Rows of a step: no pass has more."""
    rows = int(getattr(config, "minibatch", None) or getattr(config, "batch", None) or 1 << 20)
    return rows * (RANKED if hasattr(config, "eval_data") else 1)


def _context(shape: Any) -> int:
    return int(getattr(shape, "max_position_embeddings", None) or 1 << 20)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
