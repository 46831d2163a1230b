"""The memory plan of a run: asked before a model is loaded, and again when its rows are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs.shared import StageConfig
from heedful.planning.check import NEAR, advice, amount, told
from heedful.planning.job import StepShape, job_of, loaded
from heedful.planning.memory import Hardware, Needs, needs
from heedful.training import launcher, machine
from heedful.training.parallel import Ranks

LEAST = 64
"""Tokens of a short row. The config alone does not say how long the rows will be."""


def check_config(stage: str, config: StageConfig, ranks: Ranks, out: Path, say: Callable[[str], None]) -> None:
    """Raise UserError if a run cannot fit, whatever its rows are. Say so if it may not fit with the longest rows.

    Nothing is checked where a model is not on this machine yet: it is checked once it is loaded.
    """
    try:
        job = job_of(stage, config)
    except UserError:  # the loader says what is wrong
        return
    place, free = _place(ranks), machine.free(ranks.device)

    def least(changed: StageConfig, where: Hardware) -> int:
        job = job_of(stage, changed)
        return needs(job.with_rows(_least(job.rows)), where).total

    def most(changed: StageConfig, where: Hardware) -> int:
        return needs(job_of(stage, changed), where).total

    if least(config, place) > free:
        raise _refusal(out, needs(job.with_rows(_least(job.rows)), place), free, advice(config, place, free, least))
    need = needs(job, place)
    if need.total > NEAR * free:
        say(
            f"{out.name}: may need {amount(need.total)} of memory, {amount(free)} are free. With rows as long as the "
            f"settings allow, use {advice(config, place, int(NEAR * free), most) or 'a smaller model'}"
        )


def check_loaded(
    stage: str,
    config: StageConfig,
    models: Mapping[str, Any],
    rows: StepShape,
    ranks: Ranks,
    out: Path,
    say: Callable[[str], None],
) -> None:
    """Say what a run still needs, now that its models are in memory. Raise UserError if that is not free."""
    place, free = _place(ranks), machine.free(ranks.device)
    job = loaded(stage, config, models, rows)
    need = needs(job, place)

    def still(changed: StageConfig, where: Hardware) -> int:
        most = getattr(changed, "generation", None)
        sampled = min(rows.sampled, most.max_rows) if most is not None else rows.sampled
        return to_come(needs(replace(job, compute=changed.compute, rows=replace(rows, sampled=sampled)), where))

    say(f"{out.name}: memory: {told(need)}; still to come {amount(to_come(need))}, {amount(free)} free")
    if to_come(need) > free:
        raise _refusal(out, need, free, advice(config, place, free, still), beyond=to_come(need))


def to_come(need: Needs) -> int:
    """Bytes that are not there yet when the models are loaded."""
    return need.optimiser + max(need.learning, need.sampling)


def _least(rows: StepShape) -> StepShape:
    tokens = min(LEAST, rows.longest)
    return StepShape(tokens, tokens, sampled=min(1, rows.sampled), columns=min(LEAST, rows.columns))


def _place(ranks: Ranks) -> Hardware:
    return Hardware(ranks.size, launcher.on_this_machine(), "cuda" if ranks.device.type == "cuda" else "cpu")


def _refusal(out: Path, need: Needs, free: int, remedy: str, beyond: int = 0) -> UserError:
    what = f"{amount(beyond)} of memory beyond its weights" if beyond else f"{amount(need.total)} of memory"
    parts = max(need.parts().items(), key=lambda one: one[1])
    return UserError(
        f"{out}: needs about {what}, {amount(free)} are free. The most are {parts[0]} ({amount(parts[1])}). "
        f"{f'Use {remedy}' if remedy else 'Take a smaller model, or more memory'}"
    )
