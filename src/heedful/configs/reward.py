"""Settings of `heedful reward`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import INPUT, REST, Count
from heedful.configs.offline import RankingConfig
from heedful.configs.shared import FilePath, ModelRef


class RewardConfig(RankingConfig):
    panels = {"demonstrations": INPUT, "groups": REST}
    may_change = ("preflight",)

    model: ModelRef
    """Start of the body: an SFT run (the paper's later choice), another causal LM, or a reward model to continue."""
    demonstrations: FilePath | None = None
    """Demonstrations. Their mean reward becomes 0 (R5)."""
    groups: dict[str, Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] = {}
    """Weight of the rankings of each group of labelers. Groups without a weight, or with 0, are not trained on.
    Without this setting all groups have weight 1. Weights are divided by their mean over the training rankings. This
    option replaces the groups of a config file, `--set groups.NAME=WEIGHT` changes one of them.
    """
    preflight: Literal["warn", "stop", "off"] = "warn"
    """Checks before the first step: prompts or users of the training that are also in the held-out file.
    warn = say what fails, stop = end the command, off = no checks.
    """
    members: int = Field(default=1, ge=1, le=100)
    """Reward models to train: more than one make an ensemble. They differ in their head and in the order of the data,
    with seeds from `seed` on, and share the held-out rankings. They are in RUN/members.
    """
    folds: int = Field(default=0, ge=0, le=1000)
    """Groups of labelers for a cross-validation over labelers (R6): each group in turn is left out of the training.
    0 = none. It measures and leaves no model.
    """
    fold_seeds: int = Field(default=3, ge=1, le=1000)
    """Seeds with which each fold is trained."""
    batch: Count = 64
    normaliser: Literal["k_choose_2", "valid_pairs"] = "k_choose_2"
    """Divisor of a prompt's pair losses: all K(K-1)/2 pairs, or only those that are not tied (R3)."""
