"""Settings of `heedful score`."""

from __future__ import annotations

from heedful.config import INPUT, REST, Config, Count
from heedful.configs.shared import Compute, FilePath, RewardRef
from heedful.configs.stage import CommandRecord


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


COMMAND = CommandRecord(
    name="score",
    help="Score the answers in a file with a reward.",
    config=ScoreConfig,
    function="heedful.inference.score:run",
    details="Rows keep their fields and get `scores`, a number for each answer. With several rewards "
    "`score_parts` holds the numbers of each. A reward model with the policy's tokenizer scores the "
    "sampled ids. Another one reads the text.",
)
