"""Settings of `heedful evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import Config, Seed
from heedful.configs.shared import INPUT, Compute, FilePath, Generation, RefusedRows, RewardRef, TemplateArguments


class EvaluateConfig(Config):
    panels = {"a": INPUT, "common": "Settings"}

    a: Annotated[str, "A"]
    """Model to sample from, or file of answers. With `judgements`: a name in that file."""
    b: Annotated[str, "B"]
    """The other side of the comparison, of the same forms."""
    reward: list[RewardRef] = []
    """The judge: reward model, or Python function as module:function, with an optional weight. Several add up."""
    judgements: FilePath | None = None
    """The judge: a file of people's choices."""
    prompts: FilePath | None = None
    """Prompts to compare on. Not needed if a file of answers or choices has them."""
    common: bool = False
    """Leave out prompts that one side has not answered, instead of stopping with an error."""
    limit: int | None = Field(default=None, ge=1)
    """Use only the first prompts, this many."""
    cluster: Literal["prompt", "user"] = "prompt"
    """Unit that the interval counts (T3). Take users if the prompts of one user resemble each other."""
    similar_length: float = Field(default=0.1, ge=0)
    """Two answers are of similar length if the longer one exceeds the shorter one by at most this share."""
    seed: Seed = 0
    """Random seed."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    refused_rows: RefusedRows = "stop"
    """What happens to rows that the chat template refuses. join = the system message begins the first question."""
    template: TemplateArguments = {}
    """Arguments of the chat template, such as enable_thinking=false. A trained model has its own already.
    `chat_template` is the template itself: Jinja text, or a file that ends in .jinja.
    """
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()
