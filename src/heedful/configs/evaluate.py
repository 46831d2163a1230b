"""Settings of `heedful evaluate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import Config, Seed
from heedful.configs.shared import Compute, Generation


class EvaluateConfig(Config):
    a: str
    """A model (run, directory or hub name), sampled here, or a file of answers; for `judgements` a name there."""
    b: str
    reward: list[str] = []
    """The judge: reward-model runs or module:function, each with an optional weight in front (0.5*runs/rm)."""
    judgements: str | None = None
    """The judge: a file of people's choices."""
    prompts: str | None = None
    """What to compare on; may be left out where the answers or choices come from a file."""
    common: bool = False
    """Leave out the prompts that one side has no answer to, instead of stopping."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many prompts."""
    cluster: Literal["prompt", "user"] = "prompt"
    """What the bootstrap draws (T3): users where prompts of one user resemble each other."""
    similar_length: float = Field(default=0.1, ge=0)
    """Two answers are of similar length where the longer is longer by at most this share of the shorter."""
    seed: Seed = 0
    skip_long: bool = False
    """Leave out prompts too long for a model, instead of stopping."""
    trust_remote_code: bool = False
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()
