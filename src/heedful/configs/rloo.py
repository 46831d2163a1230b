"""Settings of `heedful rloo`."""

from __future__ import annotations

from pydantic import Field

from heedful.configs.online import GroupConfig
from heedful.configs.stage import GROUPS, SAMPLED, Stage


class RLOOConfig(GroupConfig):
    one_action = "sequence"

    kl_coef: float = Field(default=0.05, ge=0, le=1e6)
    """Penalty for each nat of KL from the reference, β."""


COMMAND = Stage(
    name="rloo",
    help="Train a policy with RLOO: the other answers to a prompt are the baseline.",
    config=RLOOConfig,
    function="heedful.stages.rloo:train",
    place=50,
    heading="RLOO",
    headline=("score", "kl"),
    charts=(*SAMPLED, GROUPS),
    online=True,
)
