"""Settings of `heedful round`: the plan of a project's rounds, in round.toml in its folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import Config, Count


class GateConfig(Config):
    """What a candidate must show before it replaces the model that is served."""

    prompts: Count | None = None
    """Prompts of held-out users on which a gate decides. It is fixed when the round begins. none = as many as find a
    model that wins `detect` of the comparisons with a chance of `power`.
    """
    detect: float = Field(default=0.6, gt=0.5, lt=1)
    """True win rate that the gate is to find."""
    power: float = Field(default=0.9, ge=0.5, lt=1)
    """Chance with which the gate finds it."""
    design: float = Field(default=1.0, ge=1)
    """Factor on the number of prompts where prompts of one user vary together."""
    flag: float = Field(default=0.0, ge=0, le=1)
    """How much more often the candidate may have a flag (D9), as a share of its answers. It must exceed this beyond
    chance. The interval allows for all flags together.
    """
    flags: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Bounds of single flags, such as hallucination = 0.02."""
    unrated: Literal["undecided", "allow"] = "undecided"
    """What a gate without ratings says. allow = decide without flags, for a judge that rates none."""
    tax: Annotated[float, Field(ge=0)] | Literal["off"] = "off"
    """Most nats a token by which the loss on `tax_data` may exceed that of the served model (E6). off = no bound."""
    length: Annotated[float, Field(gt=1)] | Literal["off"] = 1.5
    """Largest ratio of mean lengths, in both directions. off = no bound."""
