"""Settings of `heedful sample`."""

from __future__ import annotations

from heedful.config import Config, Count, Seed
from heedful.configs.shared import Compute, Generation
from heedful.configs.stage import Command


class SampleConfig(Config):
    model: str
    prompts: str
    k: Count = 1
    """Completions a prompt. Fewer are the first of more."""
    seed: Seed = 0
    chunk: Count = 256
    """Prompts sampled together and saved at once."""
    skip_long: bool = False
    """Leave out prompts that fill the context instead of stopping."""
    trust_remote_code: bool = False
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()


COMMAND = Command(
    name="sample",
    help="K completions for each prompt.",
    config=SampleConfig,
    function="heedful.inference.sample:run",
)
