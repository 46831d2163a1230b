"""Settings of `heedful ppo`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, Share
from heedful.configs.online import OnlineConfig
from heedful.configs.shared import ModelRef, Optimiser


class PPOConfig(OnlineConfig):
    panels = {"value": INPUT, "gamma": "Advantages and clipping"}

    value: ModelRef | None = None
    """Start of the value net. none = the first reward model that shares the tokenizer, with its head. If there is no
    such model: the policy's body.
    """
    gamma: Share = 1.0
    """Discount of later rewards (P12)."""
    lam: Share = 0.95
    """λ of generalised advantage estimation (P12)."""
    value_clip: float | None = Field(default=0.2, gt=0, le=1e6)
    """Range of a value around its old value (P15). none = no clipping."""
    whiten_rewards: bool = False
    """Divide the rewards by their standard deviation first (P11)."""
    value_optimiser: Optimiser = Optimiser(lr=9e-6, schedule="constant")
