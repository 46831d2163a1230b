"""Checks before a stage spends compute: each with its figure, its bound and a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Comparison, Demonstration, Prompt, as_text
from heedful.maths.separation import shrunk_gaussian
from heedful.maths.statistics import FEWEST
from heedful.models import load, render, scoring
from heedful.models.templates import TemplateRefused
from heedful.rewards.distance import BOUND, measurable, split_half_bound
from heedful.rewards.functions import ModelScorer, Reward
from heedful.runs.manifest import NAME, Manifest
from heedful.training.stage_run import StageRun

R = TypeVar("R", bound=Prompt)
Mode = Literal["warn", "stop", "off"]
REPEATS, ONE_LABELER, FAR = 0.1, 0.5, 0.2
MOST_PROMPTS, FEWEST_PROMPTS = 1_000, 20
NO_RUN = "not a run, so its training is unknown"


@dataclass(frozen=True)
class Check:
    """One check. `passed` is None if it could not be made, and `figure` then says why."""

    name: str
    figure: str
    bound: str
    passed: bool | None
    remedy: str


def settle(s: StageRun, mode: Mode, checks: Iterable[Check]) -> None:
    """Record the checks in the manifest and say which failed. With "stop", raise UserError for the first of them."""
    if mode == "off":
        return
    made = list(checks)
    s.note(preflight=[asdict(check) for check in made])
    failed = [check for check in made if check.passed is False]
    for check in failed[mode == "stop" :]:  # the error below tells the first
        s.say(f"{s.name}: preflight: {_told(check)}")
    unmade = ", ".join(f"{check.name} ({check.figure})" for check in made if check.passed is None)
    if unmade:
        s.say(f"{s.name}: preflight: not checked: {unmade}")
    if failed and mode == "stop":
        more = f" {len(failed) - 1} more failed." if len(failed) > 1 else ""
        raise UserError(f"{s.out}: {_told(failed[0])}.{more} Or go on with preflight = warn")


def of_demonstrations(path: str, held_out: str | None) -> Iterable[Check]:
    """Whether demonstrations repeat, one labeler wrote most of them, or held-out data share prompts or users."""
    rows = _rows(path, Demonstration)
    repeated = len(rows) - len({(as_text(row.prompt), row.completion) for row in rows})
    yield _share(
        "repeated demonstrations",
        path,
        repeated,
        len(rows),
        REPEATS,
        "Remove the repeats, or collect more demonstrations",
    )
    labelers = Counter(row.labeler for row in rows if row.labeler is not None)
    if len(labelers) > 0:
        (name, most), named = labelers.most_common(1)[0], sum(labelers.values())
        remedy = f"Collect demonstrations of other labelers than {name}"
        yield _share("demonstrations of one labeler", path, most, named, ONE_LABELER, remedy)
    yield from _shared(rows, path, _rows(held_out, Demonstration) if held_out else [], held_out)


def of_rankings(path: str, held_out: str | None) -> Iterable[Check]:
    """Whether held-out comparisons share prompts or users with those of the training."""
    if held_out is not None:
        yield from _shared(_rows(path, Comparison), path, _rows(held_out, Comparison), held_out)


def of_rewards(reward: Reward, prompts: Sequence[Prompt]) -> Iterable[Check]:
    """Whether each reward model beats "longer wins", and whether the prompts are like those that it learned from."""
    for part in reward.members():
        if isinstance(part.score, ModelScorer):
            yield _beats_length(part.name, Manifest.read_or_none(Path(part.name) / NAME))
    found = measurable(reward)
    if found is not None:
        yield _near(*found, prompts)


def _beats_length(name: str, manifest: Manifest | None) -> Check:
    """Whether the interval of the held-out accuracy is above that of "longer wins"."""
    title, remedy = f"accuracy of {name}", "Collect more rankings, or start from a better model"
    valid = None if manifest is None else manifest.results.get("valid")
    if not isinstance(valid, dict):
        figure = NO_RUN if manifest is None else "no held-out accuracy in its run"
        return Check(title, figure, "above 'longer wins'", None, remedy)
    ours, longer = valid["accuracy"], valid["longer_wins"]["rate"]
    low = "no interval" if ours["low"] is None else f"at least {ours['low']:.1%}"
    if ours["low"] is None and ours["rate"] > longer:
        remedy = f"Hold out rankings of more prompts, at least {FEWEST}"
    passed = ours["low"] is not None and ours["low"] > longer
    return Check(title, f"{ours['rate']:.1%} ({low})", f"above 'longer wins' ({longer:.1%})", passed, remedy)


def _near(name: str, scorer: ModelScorer, prompts: Sequence[Prompt]) -> Check:
    """Whether the prompts are within the distance of those that the reward model learned from, by their last states."""
    title, bound = f"prompts far from those of {name}", f"at most {FAR:.0%}"
    remedy = "Rank answers to such prompts and train the reward model on them, or leave these prompts out"
    manifest = Manifest.read_or_none(Path(name) / NAME)
    if manifest is None:
        return Check(title, NO_RUN, bound, None, remedy)
    source = manifest.data.get("data", {})
    path = source.get("path")
    if path is None or not Path(path).exists() or formats.fingerprint(path)["sha256"] != source.get("sha256"):
        return Check(title, "the file that it learned from is gone or has changed", bound, None, remedy)
    learned = list({as_text(row.prompt): row for row in _rows(path, Comparison)}.values())
    states = [_prompt_states(scorer, rows) for rows in (learned, prompts)]
    if min(len(one) for one in states) < FEWEST_PROMPTS:
        return Check(title, f"fewer than {FEWEST_PROMPTS} different prompts", bound, None, remedy)
    limit = split_half_bound(states[0])
    share = float(np.mean(shrunk_gaussian(states[0]).distances(states[1]) > limit))
    figure = f"{share:.1%} are farther than {BOUND:.0%} of its training prompts"
    return Check(title, figure, bound, share <= FAR, remedy)


def _prompt_states(scorer: ModelScorer, rows: Sequence[Prompt]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The last hidden state of each prompt that the model can read, of at most 1,000 evenly spread ones."""
    context, ids = load.context_length(scorer.model), []
    for row in rows[:: -(-len(rows) // MOST_PROMPTS)] if rows else []:
        try:
            one = render.prompt_ids(scorer.tokenizer, row.prompt, row.tools)
        except TemplateRefused:
            continue
        if 2 <= len(one) <= context:
            ids.append((one[:-1], one[-1:]))
    return scorer.over(ids, scoring.last_states).double().numpy() if ids else np.empty((0, 0))


def _rows(path: str, kind: type[R]) -> list[R]:
    """The rows of a file that the stage reads too, with its remarks."""
    return formats.read(path, kind, remarks=False)


def _share(name: str, path: str, count: int, total: int, bound: float, remedy: str) -> Check:
    figure = f"{count} of {total} in {path} ({count / total:.0%})"
    return Check(name, figure, f"at most {bound:.0%}", count <= bound * total, remedy)


def _shared(rows: Sequence[Prompt], path: str, held_out: Sequence[Prompt], other: str | None) -> Iterable[Check]:
    """Prompts and users that training and held-out rows share."""
    if other is None:
        return
    for name, sides in (
        ("prompts", [{as_text(row.prompt) for row in part} for part in (rows, held_out)]),
        ("users", [{row.user for row in part if row.user is not None} for part in (rows, held_out)]),
    ):
        shared = len(sides[0] & sides[1])
        remedy = f"Split by {name[:-1]}, as heedful curate does"
        yield Check(f"shared {name}", f"{shared} of {other} are also in {path}", "none", shared == 0, remedy)


def _told(check: Check) -> str:
    return f"{check.name}: {check.figure}, and the bound is {check.bound}. {check.remedy}"
