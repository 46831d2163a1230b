"""Settings of `heedful reward`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import INPUT, Checkpointing, Compute, FilePath, ModelRef, Optimiser
from heedful.configs.stage import ACCURACY, ChartSpec, Stage


class RewardConfig(Config):
    panels = {"model": INPUT, "groups": "Settings"}

    model: ModelRef
    """Start of the body: an SFT run (the paper's later choice), another causal LM, or a reward model to continue."""
    data: FilePath
    """Comparisons: rankings of K answers."""
    eval_data: FilePath | None = None
    """Held-out comparisons. Without it: rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.05
    """Share of the prompts to hold out."""
    demonstrations: FilePath | None = None
    """Demonstrations. Their mean reward becomes 0 (R5)."""
    groups: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Weight of the rankings of each group of labelers. Groups without a weight, or with 0, are not trained on.
    Without this setting all groups have weight 1.
    """
    seed: Seed = 0
    """Random seed."""
    epochs: Count = 1
    """Passes over the data."""
    batch: Count = 64
    """Prompts in a step, each with all its pairs."""
    normaliser: Literal["k_choose_2", "valid_pairs"] = "k_choose_2"
    """Divisor of a prompt's pair losses: all K(K-1)/2 pairs, or only those that are not tied (R3)."""
    evaluations: Count = 1
    """Number of validations in the run. The last weights are kept, as in the paper."""
    max_prompt_tokens: Count = 1024
    """Most tokens of a prompt. A longer one is an error, or left out with `skip_long`."""
    max_response_tokens: Count = 1024
    """Most tokens of a response. A longer one is cut, and then has no end of text."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    optimiser: Optimiser = Optimiser(lr=9e-6)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="reward",
    help="Train a reward model on rankings.",
    config=RewardConfig,
    function="heedful.stages.reward:train",
    details="Results: `rankings` and `pairs` in training; `all_tied`, rankings without a pair; `other_groups`, "
    "rankings of groups without a weight; `bias`, which gives the demonstrations a mean reward of 0; "
    "`valid`, the accuracy on held-out pairs.",
    place=30,
    heading="Reward model training",
    charts=(ChartSpec("Ranking loss", "nats a pair", {"pair_loss": "training"}), ACCURACY),
    writes_text=False,
)
