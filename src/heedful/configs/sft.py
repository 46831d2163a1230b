"""Settings of `heedful sft`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config, Count, Seed, Share
from heedful.configs.shared import Checkpointing, Compute, Generation, Optimiser
from heedful.configs.stage import LOSSES, ChartSpec, Stage


class SFTConfig(Config):
    model: str
    data: str
    """Demonstrations."""
    valid_data: str | None = None
    """Held-out demonstrations; else rows with split "valid", else `valid_fraction` of the prompts."""
    valid_fraction: Share = 0.1
    pretrain_data: str | None = None
    """Texts mixed in (S3)."""
    pretrain_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Weight of the texts in the loss, and their share of each batch's rows."""
    select_with: str | None = None
    """A reward (run or module:function) that picks the checkpoint, instead of the validation loss (S2)."""
    prompts: str | None = None
    """Prompts to sample for `select_with`."""
    select_samples: Count = 256
    seed: Seed = 0
    epochs: Count = 16
    batch: Count = 32
    """Demonstrations a step."""
    evaluations: int = Field(default=0, ge=0)
    """How often to validate over the run; 0 = once an epoch."""
    dropout: float | None = None
    """Residual dropout; None = the paper's 0.2 where the architecture has it, else 0."""
    max_prompt_tokens: Count = 1024
    max_response_tokens: Count = 1024
    skip_long: bool = False
    """Leave out prompts over the limit instead of stopping."""
    trust_remote_code: bool = False
    optimiser: Optimiser = Optimiser(lr=9.65e-6)
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()


COMMAND = Stage(
    name="sft",
    help="Supervised fine-tuning on demonstrations.",
    config=SFTConfig,
    function="heedful.stages.sft:train",
    place=20,
    heading="Supervised fine-tuning",
    charts=(
        ChartSpec("SFT loss", "nats a token", LOSSES),
        ChartSpec("Reward of samples", "score", {"valid_reward": "held out"}),
    ),
)
