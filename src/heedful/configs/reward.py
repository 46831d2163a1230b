"""Settings of `heedful reward`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import Checkpointing, Compute, Optimiser
from heedful.configs.stage import ACCURACY, ChartSpec, Stage


class RewardConfig(Config):
    model: str
    """Where the body comes from: an SFT run (the paper's later choice), any causal LM, or a reward model to go on
    with.
    """
    data: str
    """Rankings."""
    eval_data: str | None = None
    """Held-out rankings; else rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.05
    demonstrations: str | None = None
    """Demonstrations that shall score 0 on average (R5)."""
    groups: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Groups of labelers to learn from, each with the weight of its rankings; the others, and weight 0, are left out.
    Empty = everybody alike.
    """
    seed: Seed = 0
    epochs: Count = 1
    batch: Count = 64
    """Prompts a step, each with all its pairs."""
    normaliser: Literal["k_choose_2", "valid_pairs"] = "k_choose_2"
    """What a prompt's pair losses are divided by when ties leave fewer pairs (R3)."""
    evaluations: Count = 1
    """How often to measure held-out accuracy over the run; the last weights are kept, as in the paper."""
    max_prompt_tokens: Count = 1024
    max_response_tokens: Count = 1024
    skip_long: bool = False
    trust_remote_code: bool = False
    optimiser: Optimiser = Optimiser(lr=9e-6)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="reward",
    help="A reward model from rankings.",
    config=RewardConfig,
    function="heedful.stages.reward:train",
    place=30,
    heading="Reward model training",
    charts=(ChartSpec("Ranking loss", "nats a pair", {"pair_loss": "training"}), ACCURACY),
    writes_text=False,
)
