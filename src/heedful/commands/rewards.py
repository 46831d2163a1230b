"""Commands about rewards: whether one can be trusted, and whether a policy has fooled one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful import terminal
from heedful.commands.base import AS_JSON, OVERWRITE, PEOPLE, USE, argument, command, option
from heedful.errors import UserError
from heedful.headings import RUN


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


@command(
    "spot-check", USE, argument("run", "RUN", "Run of PPO, RLOO or GRPO that was trained with --watch."),
    option("--queue", metavar="PROJECT", panel=PEOPLE, help="Send answers to this project, for held-out labelers to "
           "judge. A new project gets a guide for final evaluations."),
    option("--labels", metavar="SNAPSHOT", panel=PEOPLE, help="Read what they said, and show which share is bad."),
    option("--db", metavar="DB", panel=PEOPLE, help="Database of --queue: SQLite file or postgresql:// URL. "
           "heedful.db without it."),
    AS_JSON, config="heedful.configs.spot_check:SpotCheckConfig",
)  # fmt: skip
def _spot_check(settings: Any, run: Path, queue: str | None, labels: str | None, db: str | None, as_json: bool) -> None:
    """Let people judge the most suspicious answers of a run and as many random ones, without knowing which.

    Suspicious: the reward is far above the watched ones, the answer is far from what the reward model learned from, or
    it repeats itself. --queue sends them, --labels says which share is bad in each. Each answer comes next to that of
    the run's first measurement to the same prompt.
    """
    if (queue is None) == (labels is None):
        raise UserError("give --queue and a project, or --labels and a snapshot")
    given = {f"--{name.replace('_', '-')}" if name != "n" else "-n" for name in settings.model_fields_set}
    given |= {"--db"} if db is not None else set()
    unused = sorted(given - {"--bad"} if labels is not None else given & {"--bad"})
    if unused:
        raise UserError(f"{unused[0]}: {'--labels' if labels is not None else '--queue'} does not use it. Leave it out")
    from heedful.evaluation import spot_check, spot_labels

    if labels is not None:
        result = spot_labels.read(run, labels, settings.bad)
        print(json.dumps(result, ensure_ascii=False) if as_json else spot_labels.describe(result))
        return
    from heedful.feedback import final
    from heedful.web.text import defaults

    assert queue is not None
    plan = spot_check.plan(run, settings)  # first, so that a run that does not fit leaves no database
    put = final.opened(db or "heedful.db", queue, "quality", defaults.CONSENT)
    spot_check.remember(run, plan.chosen)
    queued = put(plan.pairs)
    told = plan.counts | {"queue": queued, "remarks": plan.remarks}
    print(json.dumps(told, ensure_ascii=False) if as_json else spot_check.describe(plan, queued, run))
