"""Settings of `heedful rloo`."""

from __future__ import annotations

from pydantic import Field

from heedful.configs.online import GroupConfig


class RLOOConfig(GroupConfig):
    one_action = "sequence"

    kl_coef: float = Field(default=0.05, ge=0, le=1e6)
    """Penalty for each nat of KL from the reference, β."""
