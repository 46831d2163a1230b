"""Settings of `heedful chat`."""

from __future__ import annotations

from heedful.config import Config, Seed
from heedful.configs.shared import Compute, Generation


class ChatConfig(Config):
    model: str
    history: bool | None = None
    """Whether the model sees the earlier turns; None = only if its tokenizer has a chat template."""
    seed: Seed = 0
    trust_remote_code: bool = False
    generation: Generation = Generation(max_new_tokens=512)
    compute: Compute = Compute()
