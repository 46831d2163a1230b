"""Settings of `heedful pretrain`."""

from __future__ import annotations

from pydantic import Field

from heedful.config import INPUT, MOST, REST, Seed
from heedful.configs.shared import FilePath, ModelRef, Optimiser, StageConfig


class PretrainConfig(StageConfig):
    panels = {"data": INPUT, "seed": REST}
    may_grow = ("tokens",)

    data: FilePath
    """Texts to learn from."""
    valid_data: FilePath | None = None
    """Held-out texts. Without it every hundredth row of `data` is held out."""
    model: ModelRef | None = None
    """Model to train further, with its tokenizer. Without it a new one is made, as `depth`, `width` and `vocab_size`
    say.
    """
    seed: Seed = 0
    """Random seed."""
    depth: int = Field(default=6, ge=1, le=128)
    """Number of layers, which sets the size: the width is 32 for each layer (at least 64), a head is 32 wide."""
    width: int = Field(default=0, ge=0, le=2**17, multiple_of=32)
    """Numbers in a hidden state. 0 = as the depth says."""
    vocab_size: int = Field(default=4096, ge=260, le=2**20)
    """Number of tokens of the new tokenizer."""
    context: int = Field(default=512, ge=2, le=2**24)
    """Longest input of the model in tokens. Longer texts are cut into pieces."""
    chat_template: str = ""
    """Chat template of the tokenizer: Jinja text, or a file that ends in .jinja. Without one, models that learn from
    it later use prompts as written.
    """
    tokens: int = Field(default=0, ge=0, le=10**14)
    """Tokens of text to train on, without padding. 0 = 20 for each parameter. A short file is read repeatedly."""
    batch_tokens: int = Field(default=0, ge=0, le=MOST)
    """Most tokens in a step, with padding. 0 = 8 times `context`. Documents of similar length share a step."""
    optimiser: Optimiser = Optimiser(lr=0.0, warmup=50, weight_decay=0.1, clip_norm=1.0)
    """A learning rate of 0 means 3e-3 at width 128, falling with the square root of the width."""

    @property
    def hidden(self) -> int:
        """The width of the model."""
        return self.width or max(64, 32 * self.depth)
