"""Settings of `heedful trust`."""

from __future__ import annotations

from heedful.config import INPUT, REST, Config, Count, Seed
from heedful.configs.shared import Compute, FilePath, RewardRef


class TrustConfig(Config):
    panels = {"reward": INPUT, "limit": REST}

    reward: list[RewardRef]
    """The reward to examine: a reward model, or Python function as module:function, with an optional weight, or an
    ensemble such as "min(A,B,C)". Several add up.
    """
    data: FilePath
    """Held-out comparisons."""
    training_data: FilePath | None = None
    """Comparisons that the reward learned from. none = the file that the run of the reward model names. The bag of
    words and the distance learn from it.
    """
    external: list[FilePath] = []
    """Comparisons from elsewhere, to measure the accuracy on."""
    outside: list[FilePath] = []
    """Answers to prompts of another kind, such as those of another world. The distance should tell them apart."""
    hacked: FilePath | None = None
    """Answers of a policy that fooled a reward. The distance should tell them apart."""
    truth: RewardRef | None = None
    """The true reward, where there is one: in the sandbox heedful.sandbox.truth:world_SEED."""
    limit: Count | None = None
    """Use at most this many rows of each file, drawn by `seed`."""
    shortcut_rows: Count = 200
    """Rankings whose answers are changed to test for shortcuts."""
    seed: Seed = 0
    """Random seed."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    compute: Compute = Compute()
