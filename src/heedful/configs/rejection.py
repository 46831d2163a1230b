"""Settings of `heedful rejection`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, REST, Count
from heedful.configs.offline import OfflineConfig
from heedful.configs.shared import MOST_EPOCHS, FilePath, Generation, RewardRef


class RejectionConfig(OfflineConfig):
    panels = {"reward": INPUT, "n": REST}

    data: FilePath
    """Prompts to answer."""
    reward: list[RewardRef]
    """Reward model, or Python function as module:function, with an optional weight: 0.5*runs/reward. Several add up.
    An ensemble is "min(A,B)", "mean(A,B)" or "mean-0.5*std(A,B)".
    """
    n: int = Field(default=16, ge=2, le=1_000_000)
    """Answers to each prompt to choose from."""
    chunk: Count = 64
    """Prompts that are sampled and saved together."""
    epochs: int = Field(default=2, ge=1, le=MOST_EPOCHS)
    """Passes over the chosen answers."""
    generation: Generation = Generation(max_new_tokens=256)
