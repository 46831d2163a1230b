"""Settings of `heedful sft`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import INPUT, MOST, REST, Count, Share
from heedful.configs.offline import OfflineConfig
from heedful.configs.shared import MOST_EPOCHS, FilePath, Generation, ModelRef, Optimiser, RewardRef


class SFTConfig(OfflineConfig):
    panels = {"valid_data": INPUT, "select_samples": REST}
    may_change = ("preflight",)

    model: ModelRef
    """Model to fine-tune."""
    data: FilePath
    """Demonstrations. Rows with split "test" are left out."""
    turns: Literal["last", "all"] = "last"
    """Answers of a chat to learn from: the last one, for which the others are context, or all of them."""
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
    epochs: int = Field(default=16, ge=1, le=MOST_EPOCHS)
    """Passes over the data."""
    evaluations: int = Field(default=0, ge=0, le=MOST)
    """Number of validations in the run. 0 = once an epoch."""
    special_tokens: list[str] = []
    """Tokens to add to the tokenizer, such as <answer>. Each is one id with an embedding that is trained."""
    preflight: Literal["warn", "stop", "off"] = "warn"
    """Checks before the first step: repeats, demonstrations of one labeler, prompts or users that are also held out.
    warn = say what fails, stop = end the command, off = no checks.
    """
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Residual dropout. none = the paper's 0.2 if the architecture has dropout, else 0."""
    optimiser: Optimiser = Optimiser(lr=9.65e-6)
    generation: Generation = Generation(max_new_tokens=256)
