"""Settings of `heedful best-of-n`."""

from __future__ import annotations

from heedful.config import Config, Count, Seed
from heedful.configs.shared import Compute, Generation
from heedful.configs.stage import Command


class BestOfNConfig(Config):
    model: str
    reward: list[str]
    """Reward-model runs or module:function, each with an optional weight in front (0.5*runs/rm)."""
    prompts: str
    n: Count = 16
    """Answers to choose from. They are those of `heedful sample` with k = n and the same seed."""
    seed: Seed = 0
    chunk: Count = 64
    """Prompts sampled together and saved at once."""
    skip_long: bool = False
    trust_remote_code: bool = False
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()


COMMAND = Command(
    name="best-of-n",
    help="The best of n samples by a reward, for each prompt.",
    config=BestOfNConfig,
    function="heedful.inference.best_of_n:run",
)
