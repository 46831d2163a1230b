"""Settings of `heedful evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heedful.config import INPUT, REST, Config, Count, Seed
from heedful.configs.endpoint import EndpointConfig
from heedful.configs.shared import Compute, FilePath, Generation, RefusedRows, TemplateArguments


class EvaluateConfig(Config):
    panels = {"model": INPUT, "common": REST}

    model: list[Annotated[str, "NAME=MODEL"]]
    """Model to compare, two or more: one to sample from, or a file of answers. In a file of judgements its name, its
    reference or the id of its run stands for it.
    """
    baseline: str | None = None
    """Name of the model that the others are compared with. none = the first."""
    judge: list[Annotated[str, "JUDGE"]] = []
    """Who judges: a reward model, a function as module:function, a sum of these such as '0.5*runs/rm + my:score', a
    file of people's choices or rankings, or a model behind an address as URL#model. Several judge side by side.
    """
    prompts: FilePath | None = None
    """Prompts to compare on. Not needed if a file of answers or judgements has them."""
    common: bool = False
    """Leave out prompts that one model has not answered, instead of stopping with an error."""
    limit: Count | None = None
    """Use only the first prompts, this many."""
    pairs: Literal["all", "baseline"] = "all"
    """Which pairs a reward or an endpoint judges: all, or each model with the baseline. Fewer pairs cost less."""
    cluster: Literal["auto", "prompt", "user"] = "auto"
    """Unit that intervals count (T3). auto = users if every prompt names one, else prompts."""
    similar_length: float = Field(default=0.1, ge=0, le=1e6)
    """Two answers are of similar length if the longer one exceeds the shorter one by at most this share."""
    max_requests: Count | None = None
    """Most requests to judges behind an address. Answers that this machine keeps do not count."""
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
    endpoint: EndpointConfig = EndpointConfig()
