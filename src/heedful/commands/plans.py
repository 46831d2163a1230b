"""heedful plan: memory and time of a stage before anything is loaded."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from heedful.commands.base import AS_JSON, TRAIN, Command, FiniteRange, command, option
from heedful.configs import presets, registry
from heedful.errors import UserError

if TYPE_CHECKING:
    from heedful.config import Config

UNREAD = "not read"
"""What stands for a file that a plan does not need."""


@command(
    "plan", TRAIN,
    click.Argument(["stage"], metavar="STAGE"),
    click.Argument(["given"], metavar="[SETTINGS]", nargs=-1, type=click.UNPROCESSED),
    option("--gpus", default="1,2,4,8", metavar="N,N", help="Numbers of GPUs, each with a process of its own."),
    option("--gpu", default="h100-80", metavar="NAME", help="Card, such as h100-80 or a100-40, or its memory in GiB. A "
           "wrong name lists all."),
    option("--mean-tokens", "tokens", type=click.IntRange(1), metavar="N", help="Tokens of a mean prompt with its "
           "answer, for the time. Without it: as long as the settings allow."),
    option("--engine-gib", type=FiniteRange(0), default=0.0, metavar="NUMBER", help="Memory that a server takes "
           "on each of these GPUs."),
    AS_JSON, context_settings={"ignore_unknown_options": True},
)  # fmt: skip
def _plan(
    stage: str, given: tuple[str, ...], gpus: str, gpu: str, tokens: int | None, engine_gib: float, as_json: bool
) -> None:
    """Say what a training stage needs, before anything is loaded: memory by part, and the time of an iteration.

    STAGE is a training command, such as ppo. Its own settings follow, with --preset, --config and --set. Files of data
    are not read, and a model needs only its config.json. The shapes qwen3-0.6b, llama-3.2-1b, qwen3-4b and llama-3.1-8b
    are known without it: --model llama-3.1-8b.
    """
    config = config_of(stage, given)
    from heedful.planning import gpus as cards
    from heedful.planning import table

    card = cards.find(gpu)
    engine = int(engine_gib * cards.GIB)
    job, found = table.columns(stage, config, counts(gpus), card, tokens=tokens or 0, engine=engine)
    print(json.dumps(table.rows(job, card, found)) if as_json else table.text(job, card, found))


def counts(text: str) -> list[int]:
    """Numbers of GPUs. Raises UserError for anything else."""
    found = [
        int(part) for part in text.split(",") if re.fullmatch("[0-9]{1,6}", part.strip()) and 0 < int(part) < 100_000
    ]
    if len(found) != len(text.split(",")):
        raise UserError(f"--gpus {text}: write numbers with commas between them, such as 1,2,4,8")
    return found


def config_of(stage: str, given: tuple[str, ...]) -> Any:
    """The settings of a stage as its command reads them. What a plan does not need may be missing."""
    stages = registry.stages()
    if stage not in stages:
        raise UserError(f"heedful plan {stage}: no such training stage. Choose from {', '.join(stages)}")
    found: list[Config] = []
    inner = Command(
        stage, callback=lambda settings: found.append(settings), panel=TRAIN, config=stages[stage].config_name,
        preset=lambda name, command: named(name, command), params=[],
    )  # fmt: skip
    arguments = [*given, *_missing(stage, given)]
    with inner.make_context(f"heedful plan {stage}", arguments) as context:
        inner.invoke(context)
    return found[0]


def named(preset: str, stage: str) -> dict[str, Any]:
    """The settings of a preset. Where it names no model, that of its SFT."""
    chosen = presets.read(preset, stage)
    key = "policy" if "policy" in registry.stages()[stage].config.model_fields else "model"
    return {key: presets.read(preset, "sft")["model"], **chosen}


def _missing(stage: str, given: tuple[str, ...]) -> list[str]:
    """Options for required settings that a plan does not need: files, and a reward like the policy."""
    from heedful.options import settings

    there = {text.partition("=")[0] for text in given}
    names = [one for one in settings(registry.stages()[stage].config) if one.required]
    if "--config" in there:
        return []
    models = {"--model", "--policy"} if "--preset" in there else set()
    return [
        part
        for one in names
        if one.option not in there | models and one.path not in ("model", "policy")
        for part in (one.option, "reward" if one.path == "reward" else UNREAD)
    ]
