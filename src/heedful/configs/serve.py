"""Settings of `heedful serve`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config, Count


class Limits(Config):
    """What one server, and one key, may do."""

    rows: Count = 64
    """Answers that one model samples at the same time."""
    queue: int = Field(default=256, ge=0)
    """Answers that may wait for a model. More are refused with status 503."""
    seconds: float = Field(default=600.0, gt=0)
    """Longest time for a request, with the wait. After it the answer ends with status 504."""
    choices: Count = 16
    """Most answers of one request: `n` times its prompts."""
    requests_a_minute: int = Field(default=120, ge=0)
    """Requests of a key in a minute, unless the key has a limit of its own. 0 = no limit."""
    tokens_a_day: int = Field(default=0, ge=0)
    """Tokens of a key in a day (UTC), unless the key has a quota of its own. 0 = no quota."""
