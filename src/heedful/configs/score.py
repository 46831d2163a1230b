"""Settings of `heedful score`."""

from __future__ import annotations

from heedful.config import INPUT, REST, Config, Count
from heedful.configs.shared import Compute, FilePath, RewardRef


class ScoreConfig(Config):
    panels = {"reward": INPUT, "chunk": REST}
    may_change = ("chunk", "trust_remote_code")

    reward: list[RewardRef]
    """Reward model, or Python function as module:function, with an optional weight: 0.5*runs/reward. Several add up.
    An ensemble is "min(A,B)", "mean(A,B)" or "mean-0.5*std(A,B)".
    """
    data: FilePath
    """Completions, comparisons or demonstrations."""
    chunk: Count = 256
    """Rows that are scored and saved together."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    compute: Compute = Compute()
