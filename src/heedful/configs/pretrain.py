"""Settings of `heedful pretrain`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import Config, Seed
from heedful.configs.shared import Checkpointing, Compute, Optimiser
from heedful.configs.stage import LOSSES, ChartSpec, Stage


class PretrainConfig(Config):
    data: str
    """Texts, one a row."""
    valid_data: str | None = None
    """Held-out texts; else every hundredth row of `data` is held out."""
    seed: Seed = 0
    depth: int = Field(default=6, ge=1, le=128)
    """The dial: layers; the width is 32 a layer (at least 64), a head is 32 wide."""
    vocab_size: int = Field(default=4096, ge=260, le=2**20)
    context: int = Field(default=512, ge=2)
    """The longest input of the finished model; longer texts are cut into pieces."""
    tokens: int = Field(default=0, ge=0)
    """Tokens of text to train on, padding not counted; 0 = 20 for each parameter."""
    batch_tokens: int = Field(default=0, ge=0)
    """Tokens a step at most, padding included: documents of like length share a step; 0 = 8 times context."""
    optimiser: Optimiser = Optimiser(lr=0.0, warmup=50, weight_decay=0.1, clip_norm=1.0)
    """A learning rate of 0 means 3e-3 at width 128, falling with the square root of the width."""
    compute: Compute = Compute()
    checkpoint: Checkpointing = Checkpointing()

    @property
    def width(self) -> int:
        return max(64, 32 * self.depth)


COMMAND = Stage(
    name="pretrain",
    help="A base model from scratch, with its own tokenizer.",
    config=PretrainConfig,
    function="heedful.stages.pretrain:train",
    place=10,
    heading="Pretraining",
    charts=(ChartSpec("Pretraining loss", "nats a token", LOSSES),),
)
