"""The KL that a run may spend, compared with the peak of an earlier run whose rewards were watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from heedful.config import UserError
from heedful.configs.online import OnlineConfig
from heedful.files import rows_of
from heedful.learning.preflight import Check
from heedful.maths.overoptimisation import Fit, fit
from heedful.rewards.specs import models_of
from heedful.runs.manifest import parent
from heedful.runs.run import WATCHED, Run, metrics

SHA = "weights_sha256"


def of_budget(config: OnlineConfig) -> Iterable[Check]:
    """Whether the KL budget ends before the fitted peak of the run that `peak_from` names. No check without one."""
    if config.peak_from is None:
        return
    run = Run.open(config.peak_from)
    before = _identity(run.manifest.config.get("reward", []), lambda role, _: run.manifest.parents.get(role, {}))
    if before != _identity(config.reward, lambda _, ref: parent(ref)):
        raise UserError(f"{config.peak_from}: optimised another reward, so its peak says nothing. Leave out peak_from")
    name, distances, gains, prompts = _watched(run)
    found = fit(distances, gains, "rl", prompts, start=distances[0])
    budget = config.kl_target if config.kl_ceiling is None else config.kl_ceiling
    figure = "no kl_ceiling or kl_target" if budget is None else f"{budget:.3g} nats an answer"
    measured = f"{name} in {config.peak_from}"
    if found.peak is None and not found.falls:
        reached = max(distances) ** 2
        passed = True if budget is not None and budget <= reached else None
        if passed is None:  # the reason why nothing can be said
            figure += f", and {measured} has no peak up to the {reached:.3g} nats that it was measured at"
        yield Check("KL budget", figure, f"no peak of {measured}, measured up to {reached:.3g} nats", passed, "")
        return
    peak = 0.0 if found.peak is None else found.peak.distance**2
    passed = budget is not None and budget <= peak
    remedy = "Set kl_ceiling to that" if peak else "Train another reward model first"
    yield Check("KL budget", figure, f"at most {_told(found)}, where {measured} is highest", passed, remedy)


def _told(found: Fit) -> str:
    """The peak in nats with its interval."""
    if found.peak is None:
        return "0 nats"
    at, low, high, _ = found.peak
    bounds = "" if low is None else f" ({low**2:.3g} to {'beyond the range' if high is None else f'{high**2:.3g}'})"
    return f"{at**2:.3g} nats{bounds}"


def _watched(run: Run) -> tuple[str, list[float], list[list[float]], list[str]]:
    """The first watched reward of a run, √KL of each measurement, gains over the first one, and their prompts."""
    kl = {row["step"]: row["watch/kl"] for row in metrics(run.path) if "watch/kl" in row}
    scores: dict[int, dict[int, float]] = {}
    prompts: dict[int, str] = {}
    names: list[str] = []
    for row in rows_of(run.path / WATCHED):
        if row["step"] in kl:
            names = names or list(row["watch"])
            scores.setdefault(row["step"], {})[row["question"]] = row["watch"][names[0]]
            prompts[row["question"]] = repr(row["prompt"])
    distances = [math.sqrt(max(0.0, kl[step])) for step in scores]
    if len({distance for distance in distances if distance > 0}) < 2:
        raise UserError(
            f"{run.path}: {len(scores)} measurements of watched rewards, and a peak needs two at different KL. "
            "Name a run with --watch, or leave out peak_from"
        )
    first = next(iter(scores.values()))
    table = np.array([[own[place] - first[place] for own in scores.values()] for place in first])
    return names[0], distances, table.tolist(), [prompts[place] for place in first]


def _identity(specs: Sequence[str], source: Callable[[str, str], dict[str, object]]) -> list[str]:
    """Reward specs with the hash of each model in place of its name, since names of paths may differ."""
    found = list(specs)
    for role, ref in sorted(models_of(specs).items(), key=lambda one: -len(one[1])):  # runs/rm is in runs/rm2
        place = int(role.split(".")[1])
        found[place] = found[place].replace(ref, str(source(role, ref).get(SHA, ref)))
    return found
