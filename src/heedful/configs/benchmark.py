"""Settings of `heedful benchmark`."""

from __future__ import annotations

from typing import Annotated, Literal

from heedful.config import INPUT, REST, Config, Count, Seed
from heedful.configs.shared import Compute, Generation

Set = Literal[
    "hellaswag", "truthfulqa", "wsc273", "rte", "sst2",
    "winogender", "crows_pairs", "toxicity", "squadv2", "drop", "fr_to_en", "tldr",
]  # fmt: skip


class BenchmarkConfig(Config):
    panels = {"model": INPUT, "only": REST}

    model: list[Annotated[str, "NAME=MODEL"]]
    """Model to measure, one or more: a run, a folder or a name on the hub. Give them in the order of training."""
    data: Annotated[str, "DIR"]
    """Folder of the public sets. The page on public sets lists their files."""
    baseline: str | None = None
    """Name of the model that the others are compared with. none = the first."""
    only: list[Annotated[Set, "SET"]] = []
    """Sets to measure, such as tldr. Without it: all that the folder has. Some need the extra heedful[eval]."""
    tasks: list[Annotated[str, "TASK"]] = []
    """Tasks of lm_eval by its names, such as arc_easy. It downloads them. They need the extra heedful[eval]."""
    limit: Count | None = None
    """Use at most this many items of each set, drawn by `seed`."""
    seed: Seed = 0
    """Random seed."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model."""
    generation: Generation = Generation(max_new_tokens=48, temperature=0.0)
    compute: Compute = Compute()
