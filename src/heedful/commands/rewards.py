"""Commands about rewards: whether one can be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful import terminal
from heedful.commands.base import AS_JSON, OVERWRITE, USE, command, option
from heedful.options import RUN


@command(
    "trust", USE, option("--out", type=Path, required=True, metavar="DIR", panel=RUN, help="New folder: trust.json, "
            "and trust.txt with what is printed."), OVERWRITE, AS_JSON, config="heedful.configs.trust:TrustConfig",
)  # fmt: skip
def _trust(settings: Any, out: Path, overwrite: bool, as_json: bool) -> None:
    """Examine whether a reward can be trusted, on comparisons that it has not seen.

    Accuracy next to "longer wins", a bag of words and labelers' agreement, calibration, distance from the training
    answers, and shortcuts.
    """
    from heedful.evaluation import trust, trust_text

    with terminal.guard(out):
        result = trust.run(settings, out, overwrite=overwrite)
    print(json.dumps(result, ensure_ascii=False) if as_json else trust_text.describe(result))
