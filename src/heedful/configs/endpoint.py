"""Settings of everything that asks a model behind an address."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config


class EndpointConfig(Config):
    """How to ask a model that is given as `URL#model`. The key is in the environment variable HEEDFUL_API_KEY."""

    timeout: float = Field(default=120.0, gt=0, le=86_400)
    """Seconds until a request has failed."""
    retries: int = Field(default=5, ge=0, le=1000)
    """Times a request is sent again after status 429 or 5xx, a lost connection, or an answer that cannot be read."""
    parallel: int = Field(default=8, ge=1, le=1024)
    """Requests at the same time."""
    cache: bool = True
    """Keep answers on this machine (in HEEDFUL_CACHE, or your cache folder), so that the same request is sent once."""
