"""Settings of `heedful score`."""

from __future__ import annotations

from heedful.config import Config, Count
from heedful.configs.shared import Compute
from heedful.configs.stage import Command


class ScoreConfig(Config):
    reward: list[str]
    """Reward-model runs or module:function, each with an optional weight in front (0.5*runs/rm)."""
    data: str
    """Completions, comparisons or demonstrations."""
    chunk: Count = 256
    """Rows scored together and saved at once."""
    trust_remote_code: bool = False
    compute: Compute = Compute()


COMMAND = Command(
    name="score",
    help="Rewards of the answers in a file.",
    config=ScoreConfig,
    function="heedful.inference.score:run",
)
