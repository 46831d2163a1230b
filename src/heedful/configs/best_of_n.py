"""Settings of `heedful best-of-n`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, REST, Count
from heedful.configs.sample import AnswersConfig
from heedful.configs.shared import RewardRef


class BestOfNConfig(AnswersConfig):
    panels = {"reward": INPUT, "n": REST}

    reward: list[RewardRef]
    """Reward model, or Python function as module:function, with an optional weight: 0.5*runs/reward. Several add up.
    An ensemble is "min(A,B)", "mean(A,B)" or "mean-0.5*std(A,B)".
    """
    n: int = Field(default=16, ge=1, le=1_000_000)
    """Answers to choose from: those of `heedful sample` with k = n and the same seed."""
    chunk: Count = 64
    """Prompts that are sampled and saved together."""
