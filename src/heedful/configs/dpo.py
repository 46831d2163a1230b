"""Settings of `heedful dpo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.configs.offline import RankingConfig
from heedful.configs.shared import ModelRef, Optimiser


class DPOConfig(RankingConfig):
    model: ModelRef
    """Start of the policy."""
    reference: ModelRef | None = None
    """Frozen model to which `beta` pulls. none = the start of the policy. In a second round, name the first SFT
    model.
    """
    beta: float = Field(default=0.1, gt=0, le=1e6)
    """Strength of the pull towards the reference."""
    kind: Literal["dpo", "ipo"] = "dpo"
    """Loss."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of wrong labels. Only for `kind = dpo`."""
    optimiser: Optimiser = Optimiser(lr=1e-6)
