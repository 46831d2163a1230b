"""The plan of a stage for several numbers of GPUs: as rows, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.configs.shared import StageConfig
from heedful.errors import UserError
from heedful.planning.check import NEAR, advice, amount, planned
from heedful.planning.gpus import GIB, Gpu
from heedful.planning.job import PlannedStage, job_of
from heedful.planning.memory import Hardware, Needs, needs, tokens_of
from heedful.planning.speed import ASSUMED, Times, times

NODE = 8
"""GPUs of a machine."""


@dataclass(frozen=True)
class Column:
    """The plan for one number of GPUs."""

    gpus: int
    needs: Needs
    times: Times | None
    tokens: int
    """Tokens of the largest pass."""
    verdict: str
    """fits, tight or too small."""
    change: str
    """What to change first, where it does not fit."""


def columns(
    stage: str, config: StageConfig, gpus: Sequence[int], gpu: Gpu, *, tokens: int = 0, engine: int = 0
) -> tuple[PlannedStage, list[Column]]:
    """The plan for each number of GPUs. `tokens`: of a mean row, for the time. `engine`: bytes of a server on each."""
    job, found = job_of(stage, config), []
    for one in job.trained if job.lora.rank else ():
        if not one.shape.adapters(job.lora):
            names = ", ".join(sorted({name for name, _, _ in one.shape.linear}))
            raise UserError(f"lora.targets: {one.shape.name} has no linear layer of these names. It has {names}")
    for count in gpus:
        place = Hardware(count, NODE)
        need = needs(job, place, engine=engine)
        verdict = "fits" if need.total <= NEAR * gpu.memory else "tight" if need.total <= gpu.memory else "too small"
        change = ""
        if need.total > gpu.memory:
            change = advice(config, place, gpu.memory, planned(stage, engine)) or "a smaller model"
        found.append(Column(count, need, times(job, place, gpu, tokens), tokens_of(job, place), verdict, change))
    return job, found


def rows(job: PlannedStage, gpu: Gpu, found: Sequence[Column]) -> dict[str, Any]:
    """The plan for --json. Sizes in bytes, times in seconds."""
    return {
        "stage": job.stage,
        "gpu": {"name": gpu.name, "memory": gpu.memory},
        "models": {
            one.role: {"shape": one.shape.name, "held": one.held, "trained": one.trained} for one in job.networks
        },
        "assumed": [*job.assumed, ASSUMED],
        "plans": [
            {"gpus": one.gpus, "total": one.needs.total, "parts": one.needs.parts(), "verdict": one.verdict,
             "change": one.change, "times": asdict(one.times) if one.times is not None else None}
            for one in found
        ],
    }  # fmt: skip


def text(job: PlannedStage, gpu: Gpu, found: Sequence[Column]) -> str:
    """The plan as a table: a line for each part, a column for each number of GPUs."""
    models = ", ".join(f"{one.role} {one.shape.name}{_how(one.trained, one.held)}" for one in job.networks)
    lines = [f"{job.stage} on {gpu.name} ({amount(gpu.memory)}): {models}", ""]
    width = max(len(label) for label in Needs().parts()) + 2
    lines.append("GPUs".ljust(width) + "".join(f"{one.gpus:>10}" for one in found))
    for label in Needs().parts():
        sizes = [one.needs.parts()[label] for one in found]
        if any(sizes):
            lines.append(f"{label:<{width}}" + "".join(f"{size / GIB:>10.1f}" for size in sizes))
    lines.append("GiB a GPU".ljust(width) + "".join(f"{one.needs.total / GIB:>10.1f}" for one in found))
    lines.append("".ljust(width) + "".join(f"{one.verdict:>10}" for one in found))
    if all(one.times is not None for one in found):
        lines += ["", *_times(job, found, width)]
    lines += [""] + [f"{_gpus(one.gpus)}: use {one.change}" for one in found if one.change]
    lines += [f"Assumed: {'; '.join([*job.assumed, ASSUMED if gpu.flops else 'nothing of the speed'])}."]
    if any(one.needs.sampling for one in found):
        at_once = any(one.needs.at_once for one in found)
        how = "at the same time: both count" if at_once else "one after the other: the larger of the two counts"
        lines.append(f"Learning and sampling come {how}.")
    return "\n".join(lines)


def _times(job: PlannedStage, found: Sequence[Column], width: int) -> list[str]:
    lines = []
    for name in ("rollout", "scoring", "update", "sync"):
        seconds = [getattr(one.times, name) for one in found]
        if any(seconds):
            lines.append(f"{name:<{width}}" + "".join(f"{value:>9.1f}s" for value in seconds))
    what = "an iteration" if job.scored else "a step"
    return [*lines, f"{what:<{width}}" + "".join(f"{one.times.total:>9.1f}s" for one in found if one.times)]


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"


def _how(trained: int, held: int) -> str:
    return "" if trained == held else " (frozen)" if not trained else f" ({trained / 1e6:.0f}M trained)"
