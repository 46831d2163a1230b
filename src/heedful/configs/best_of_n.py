"""Settings of `heedful best-of-n`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, REST, Count
from heedful.configs.sample import AnswersConfig
from heedful.configs.shared import RewardRef
from heedful.configs.stage import CommandRecord


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


COMMAND = CommandRecord(
    name="best-of-n",
    help="Sample n answers to each prompt and keep the one with the best reward.",
    config=BestOfNConfig,
    function="heedful.inference.best_of_n:run",
    details="Rows hold the best answer, its score in `scores`, and the scores of all n in `all_scores`. Results: "
    "the mean `score` of the best, `mean_score` of all, and `kl_bound`, ln n - (n - 1)/n nats. The bound "
    "limits the KL from the model for n independent samples. At temperature 0 all n answers are equal and "
    "it says nothing.",
)
