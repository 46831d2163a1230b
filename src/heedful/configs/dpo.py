"""Settings of `heedful dpo`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import INPUT, Checkpointing, Compute, FilePath, ModelRef, Optimiser
from heedful.configs.stage import ACCURACY, ChartSpec, Stage


class DPOConfig(Config):
    panels = {"model": INPUT, "seed": "Settings"}

    model: ModelRef
    """Start of the policy. A frozen copy is the reference."""
    data: FilePath
    """Comparisons: rankings of K answers."""
    eval_data: FilePath | None = None
    """Held-out comparisons. Without it: rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.05
    """Share of the prompts to hold out."""
    seed: Seed = 0
    """Random seed."""
    epochs: Count = 1
    """Passes over the data."""
    batch: Count = 32
    """Prompts in a step, each with all its pairs."""
    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull towards the reference."""
    kind: Literal["dpo", "ipo"] = "dpo"
    """Loss."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Assumed share of wrong labels. Only for `kind = dpo`."""
    evaluations: Count = 1
    """Number of validations in the run. The last weights are kept."""
    max_prompt_tokens: Count = 1024
    """Most tokens of a prompt. A longer one is an error, or left out with `skip_long`."""
    max_response_tokens: Count = 1024
    """Most tokens of a response. A longer one is cut, and then has no end of text."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    optimiser: Optimiser = Optimiser(lr=1e-6)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="dpo",
    help="Train a policy on rankings with direct preference optimisation, a baseline.",
    config=DPOConfig,
    function="heedful.stages.dpo:train",
    details="Every pair of a ranking counts, except ties. Each completion goes through the model once.",
    place=70,
    heading="DPO",
    charts=(
        ChartSpec("DPO loss", "nats a pair", {"loss": "training", "valid_loss": "held out"}),
        ACCURACY,
    ),
)
