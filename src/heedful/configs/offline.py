"""Settings that SFT, the reward model and DPO share: they learn from a file of examples."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, REST, Count, Length, Seed, Share
from heedful.configs.shared import (
    MOST_EPOCHS,
    FilePath,
    ModelRef,
    Optimiser,
    TextStageConfig,
)


class OfflineConfig(TextStageConfig):
    panels = {"model": INPUT, "seed": REST}
    may_grow = ("epochs",)

    model: ModelRef
    """Model to start from."""
    data: FilePath
    """Examples to learn from."""
    valid_fraction: Share = 0.05
    """Share of the prompts to hold out."""
    seed: Seed = 0
    """Random seed."""
    epochs: int = Field(default=1, ge=1, le=MOST_EPOCHS)
    """Passes over the data."""
    batch: Count = 32
    """Prompts in a step, each with all its answers."""
    max_response_tokens: Length = 1024
    """Most tokens of a response. A longer one is cut, and then has no end of text, or is left out with `skip_long`."""
    skip_long: bool = False
    """Leave out prompts and responses that are too long. Otherwise such a prompt is an error, and a response is cut."""
    optimiser: Optimiser = Optimiser(lr=9e-6)


class RankingConfig(OfflineConfig):
    """Settings of stages that learn from rankings."""

    panels = {"eval_data": INPUT, "evaluations": REST}

    data: FilePath
    """Comparisons: rankings of K answers."""
    eval_data: FilePath | None = None
    """Held-out comparisons. Without it: rows with split "valid", else `valid_fraction` of the prompts."""
    evaluations: Count = 1
    """Number of validations in the run. The last weights are kept."""
