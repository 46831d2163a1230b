"""Settings of `heedful labeler`."""

from __future__ import annotations

from typing import Annotated

from heedful.config import INPUT, REST, Config, Count, Length
from heedful.configs.endpoint import EndpointConfig


class LabelerConfig(Config):
    panels = {"endpoint": INPUT, "limit": REST}

    endpoint: Annotated[str, "URL#MODEL"]
    """The model that judges, behind an OpenAI-compatible address."""
    server: Annotated[str, "URL"]
    """Address of the labelling app."""
    project: Annotated[str, "NAME"]
    """Project to work in."""
    limit: Count | None = None
    """Judge at most this many items. none = all there are."""
    max_tokens: Length = 1024
    """Most tokens of a reply."""
    asking: EndpointConfig = EndpointConfig()
