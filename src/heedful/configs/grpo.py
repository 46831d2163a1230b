"""Settings of `heedful grpo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.configs.online import GroupConfig


class GRPOConfig(GroupConfig):
    panels = {"scale_rewards": "Advantages and clipping"}

    kl_in: Literal["reward", "loss"] = "loss"
    """Where the KL penalty acts: on the score of an answer before the comparison, or on each token in the loss (k3)."""
    kl_coef: float = Field(default=0.04, ge=0, le=1e6)
    """Penalty for each nat of KL from the reference, β."""
    scale_rewards: bool = True
    """Divide the advantages of a prompt's answers by the standard deviation of their rewards."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo"] = "grpo"
    """Mean of the loss: over an answer's tokens, then answers (grpo), over all tokens (bnpo), or the sum divided by
    answers times `generation.max_new_tokens` (dr_grpo, meant for `scale_rewards` off).
    """
