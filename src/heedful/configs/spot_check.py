"""Settings of `heedful spot-check`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config, Count, Seed
from heedful.configs.shared import Compute


class SpotCheckConfig(Config):
    n: Count = 50
    """Suspicious answers to send, and as many random ones. Each prompt counts once in both."""
    bad: int = Field(default=3, ge=1, le=6)
    """An answer is bad if its overall quality (1 to 7) is at most this. For --labels."""
    seed: Seed = 0
    """Random seed of the random answers and of the order. For --queue."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model. For --queue."""
    compute: Compute = Compute()
