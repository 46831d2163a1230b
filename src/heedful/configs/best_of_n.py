"""Settings of `heedful best-of-n`."""

from __future__ import annotations

from heedful.config import Config, Count, Seed
from heedful.configs.shared import INPUT, Compute, FilePath, Generation, ModelRef, RewardRef
from heedful.configs.stage import CommandRecord


class BestOfNConfig(Config):
    panels = {"model": INPUT, "n": "Settings"}

    model: ModelRef
    """Model to sample from."""
    reward: list[RewardRef]
    """Reward model, or Python function as module:function, with an optional weight: 0.5*runs/reward. Several add up."""
    prompts: FilePath
    """Prompts to answer."""
    n: Count = 16
    """Answers to choose from: those of `heedful sample` with k = n and the same seed."""
    seed: Seed = 0
    """Random seed."""
    chunk: Count = 64
    """Prompts that are sampled and saved together."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()


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
