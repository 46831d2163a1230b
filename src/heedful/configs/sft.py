"""Settings of `heedful sft`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import INPUT, Checkpointing, Compute, FilePath, Generation, ModelRef, Optimiser, RewardRef
from heedful.configs.stage import LOSSES, ChartSpec, Stage


class SFTConfig(Config):
    panels = {"model": INPUT, "seed": "Settings"}

    model: ModelRef
    """Model to fine-tune."""
    data: FilePath
    """Demonstrations. Rows with split "test" are left out."""
    valid_data: FilePath | None = None
    """Held-out demonstrations. Without it: rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.1
    """Share of the prompts to hold out."""
    pretrain_data: FilePath | None = None
    """Texts to mix in (S3)."""
    pretrain_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Weight of these texts in the loss, and their share of the rows of a batch."""
    select_with: RewardRef | None = None
    """Reward that selects the best checkpoint (S2). Without it the validation loss does."""
    prompts: FilePath | None = None
    """Prompts to sample for `select_with`."""
    select_samples: Count = 256
    """Number of these prompts."""
    seed: Seed = 0
    """Random seed."""
    epochs: Count = 16
    """Passes over the data."""
    batch: Count = 32
    """Demonstrations in a step."""
    evaluations: int = Field(default=0, ge=0)
    """Number of validations in the run. 0 = once an epoch."""
    dropout: float | None = None
    """Residual dropout. none = the paper's 0.2 if the architecture has dropout, else 0."""
    max_prompt_tokens: Count = 1024
    """Most tokens of a prompt. A longer one is an error, or left out with `skip_long`."""
    max_response_tokens: Count = 1024
    """Most tokens of a response. A longer one is cut, and then has no end of text."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    optimiser: Optimiser = Optimiser(lr=9.65e-6)
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="sft",
    help="Fine-tune a model on demonstrations.",
    config=SFTConfig,
    function="heedful.stages.sft:train",
    details="The checkpoint with the lowest validation loss becomes model/. With `select_with` it is the one "
    "whose samples have the highest reward.",
    place=20,
    heading="Supervised fine-tuning",
    charts=(
        ChartSpec("SFT loss", "nats a token", LOSSES),
        ChartSpec("Reward of samples", "score", {"valid_reward": "held out"}),
    ),
)
