"""The sections that several commands share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import Config, Count


class Compute(Config):
    """Where and how a stage computes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the forward and backward pass; weights and optimiser stay float32."""
    micro_tokens: Count = 16_384
    """Tokens in one forward pass, and padding where the model sees any. Changes memory and speed, never the result, but
    for what dropout draws.
    """
    activation_checkpointing: bool = False
    fast: bool = True
    """Use the fast path where the model allows it. false: the model's own forward, slower and easy to step through."""


class Optimiser(Config):
    """Adam as the paper ran it (S1, R4, P19): beta = (0.9, 0.95); epsilon, decay and clipping are silent there."""

    lr: float = Field(ge=0)
    schedule: Literal["cosine", "constant", "linear"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    """Steps (iterations in PPO) until the peak, in a straight line: from 0, in PPO and before a constant rate from a
    tenth of it.
    """
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest gradient norm; 0 turns clipping off."""


class Checkpointing(Config):
    """When to save and how much to keep."""

    every: int = Field(default=0, ge=0)
    """Steps (iterations in PPO) between checkpoints; 0 = twenty over the run."""
    keep: Count = 2
    """How many of the latest stay; the best stays as well."""

    def interval(self, total: int) -> int:
        return self.every or max(1, total // 20)


class Generation(Config):
    """How to sample. Temperature 0 is greedy."""

    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    """0 = off. PPO refuses top_k and top_p (P3)."""
    max_rows: int = Field(default=256, ge=1)
    """Rows in flight at a time. Changes memory and speed, not the samples."""

    @property
    def truncated(self) -> bool:
        """Whether the sampled distribution is cut (P3)."""
        return self.top_k > 0 or self.top_p < 1.0
