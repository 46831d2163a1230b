"""Settings of `heedful sample`, and those that it shares with `heedful best-of-n`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedful.config import INPUT, REST, Config, Count, Seed
from heedful.configs.endpoint import EndpointConfig
from heedful.configs.shared import Compute, FilePath, Generation, ModelRef, RefusedRows, TemplateArguments

EQUAL = "generation.temperature is 0, so all answers to a prompt are equal"
"""What is said when several answers to a prompt are to be sampled so."""


class AnswersConfig(Config):
    """Settings of commands that answer the prompts of a file."""

    panels = {"model": INPUT, "seed": REST}
    may_change = ("chunk", "trust_remote_code")

    model: ModelRef
    """Model to sample from."""
    prompts: FilePath
    """Prompts to answer."""
    seed: Seed = 0
    """Random seed."""
    chunk: Count = 256
    """Prompts that are sampled and saved together."""
    skip_long: bool = False
    """Leave out prompts that are too long, instead of stopping with an error."""
    refused_rows: RefusedRows = "stop"
    """What happens to rows that the chat template refuses. join = the system message begins the first question."""
    special_text: Literal["plain", "refuse"] = "plain"
    """A text that spells a special token: read as plain characters, or an error."""
    template: TemplateArguments = {}
    """Arguments of the chat template, such as enable_thinking=false. A trained model has its own already.
    `chat_template` is the template itself: Jinja text, or a file that ends in .jinja.
    """
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    generation: Generation = Generation(max_new_tokens=256)
    compute: Compute = Compute()


class SampleConfig(AnswersConfig):
    k: int = Field(default=1, ge=1, le=1_000_000)
    """Completions for each prompt."""
    endpoint: EndpointConfig = EndpointConfig()
