"""Settings of `heedful chat`."""

from __future__ import annotations

from heedful.config import INPUT, REST, Config, Seed
from heedful.configs.shared import Compute, Generation, ModelRef, TemplateArguments


class ChatConfig(Config):
    panels = {"model": INPUT, "history": REST}

    model: ModelRef
    """Model to chat with."""
    history: bool | None = None
    """Show the earlier turns to the model. none = only if its chat template takes them."""
    seed: Seed = 0
    """Random seed."""
    template: TemplateArguments = {}
    """Arguments of the chat template, such as enable_thinking=false. A trained model has its own already.
    `chat_template` is the template itself: Jinja text, or a file that ends in .jinja.
    """
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    generation: Generation = Generation(max_new_tokens=512)
    compute: Compute = Compute()
