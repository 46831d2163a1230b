"""Is there enough memory, and if not, which setting to change first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from heedful.configs.shared import StageConfig
from heedful.planning.gpus import GIB
from heedful.planning.job import job_of
from heedful.planning.memory import Hardware, Needs, needs

NEAR = 0.9
"""Share of the memory from which a plan is tight."""
Measure = Callable[[StageConfig, Hardware], int]
"""From a config and where it runs to bytes on each GPU."""


def advice(config: StageConfig, place: Hardware, memory: int, measure: Measure) -> str:
    """The first setting to change so that a stage fits, as an option. Several, where no single one is enough.

    "" where nothing helps.
    """
    changes = list(_changes(config, place))
    for said, update in changes:
        if measure(_with(config, update), place) <= memory:
            return said
    kept, changed, before = dict[str, str](), config, measure(config, place)
    for said, update in changes:
        tried = _with(changed, update)
        now = measure(tried, place)
        if now < before:
            kept[said.partition(" ")[0]], changed, before = said, tried, now
        if now <= memory:
            return " and ".join(kept.values())
    sharded = _with(config, {"compute": {"shard": "full"}})
    for gpus in (2, 4, 8, 16, 32, 64) if place.device == "cuda" else ():
        if gpus > place.gpus and measure(sharded, replace(place, gpus=gpus)) <= memory:
            return f"{gpus} GPUs with --compute.shard full"
    return ""


def planned(stage: str, engine: int = 0) -> Measure:
    """What `advice` asks where nothing is loaded: all that a config needs."""
    return lambda config, place: needs(job_of(stage, config), place, engine=engine).total


def _with(config: StageConfig, update: dict[str, Any]) -> StageConfig:
    """A copy with some settings changed: {"section": {"name": value}} or {"name": value}."""
    changed = {
        name: getattr(config, name).model_copy(update=value) if isinstance(value, dict) else value
        for name, value in update.items()
    }
    return config.model_copy(update=changed)


def _changes(config: StageConfig, place: Hardware) -> Iterator[tuple[str, dict[str, Any]]]:
    """(option, update) of what makes a run smaller, from what costs least to what costs most."""
    compute = config.compute
    if place.gpus > 1 and compute.shard in ("none", "hybrid"):
        yield "--compute.shard full", {"compute": {"shard": "full"}}
    if place.device == "cuda" and compute.dtype == "float32":
        yield "--compute.dtype bfloat16", {"compute": {"dtype": "bfloat16"}}
    if not compute.activation_checkpointing:
        yield "--compute.activation-checkpointing", {"compute": {"activation_checkpointing": True}}
    tokens = compute.micro_tokens
    while tokens > 512:
        tokens //= 2
        yield f"--compute.micro-tokens {tokens}", {"compute": {"micro_tokens": tokens}}
    generation = getattr(config, "generation", None)
    most = generation.max_rows if generation is not None else 0
    while most > 8:
        most //= 2
        yield f"--generation.max-rows {most}", {"generation": {"max_rows": most}}
    if getattr(config, "ema_decay", 0):
        yield "--ema-decay 0", {"ema_decay": 0.0}
    lora = getattr(config, "lora", None)
    if lora is not None and not lora.rank:
        yield "--lora.rank 16", {"lora": {"rank": 16}}


def amount(count: int) -> str:
    """Bytes as text."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


def told(need: Needs) -> str:
    """The parts of a plan as text."""
    return ", ".join(f"{name} {amount(size)}" for name, size in need.parts().items() if size)
