"""The bias of scalar heads (R5, P16). Heads of transformers have none, so heedful stores it in the model's config."""

from __future__ import annotations

from typing import Any

BIAS = "heedful_reward_bias"


def reward_bias(model: Any) -> float:
    """The number that heedful adds to every score or value of the model."""
    return float(getattr(model.config, BIAS, 0.0))


def set_reward_bias(model: Any, bias: float) -> None:
    """Write the bias to `config.heedful_reward_bias`, which is saved with the model."""
    setattr(model.config, BIAS, float(bias))
