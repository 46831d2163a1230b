"""Settings of `heedful dpo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import Checkpointing, Compute, Optimiser
from heedful.configs.stage import ACCURACY, ChartSpec, Stage


class DPOConfig(Config):
    model: str
    """Where the policy starts; its frozen copy is the reference."""
    data: str
    """Rankings."""
    eval_data: str | None = None
    """Held-out rankings; else rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.05
    seed: Seed = 0
    epochs: Count = 1
    batch: Count = 32
    """Prompts a step, each with all its pairs."""
    beta: float = Field(default=0.1, gt=0)
    kind: Literal["dpo", "ipo"] = "dpo"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the labels taken to be wrong; of dpo only."""
    evaluations: Count = 1
    """How often to measure held-out pairs over the run; the last weights are kept."""
    max_prompt_tokens: Count = 1024
    max_response_tokens: Count = 1024
    skip_long: bool = False
    trust_remote_code: bool = False
    optimiser: Optimiser = Optimiser(lr=1e-6)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="dpo",
    help="Direct preference optimisation on rankings, a baseline.",
    config=DPOConfig,
    function="heedful.stages.dpo:train",
    place=70,
    heading="DPO",
    charts=(
        ChartSpec("DPO loss", "nats a pair", {"loss": "training", "valid_loss": "held out"}),
        ACCURACY,
    ),
)
