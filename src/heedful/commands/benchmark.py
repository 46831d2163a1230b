"""The command about public sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful import terminal
from heedful.commands.base import AS_JSON, OVERWRITE, USE, command, option
from heedful.headings import RUN


@command(
    "benchmark", USE, option("--out", type=Path, required=True, metavar="DIR", panel=RUN, help="New folder: "
            "benchmark.json, benchmark.txt with what is printed, and every answer."), OVERWRITE, AS_JSON,
    config="heedful.configs.benchmark:BenchmarkConfig",
)  # fmt: skip
def _benchmark(settings: Any, out: Path, overwrite: bool, as_json: bool) -> None:
    """Measure the alignment tax: what models know, and how biased and toxic they are, on public sets.

    Each value has its interval, the paired change from the first model, what chance would give, and the paper's.
    """
    from heedful.evaluation.benchmark import run, words

    with terminal.guard(out):
        result = run.run(settings, out, overwrite=overwrite)
    print(json.dumps(result, ensure_ascii=False) if as_json else words.describe(result))
