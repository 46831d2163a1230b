"""All commands that have a config, by name."""

from __future__ import annotations

from functools import cache

from heedful.configs.records import COMMANDS
from heedful.configs.stage import CommandRecord, Stage

LAST = 10_000


@cache
def commands() -> dict[str, CommandRecord]:
    """Every command by its name: the stages first, in the order of their `place`."""
    return {one.name: one for one in sorted(COMMANDS, key=lambda one: (_place(one), one.name))}


def stages() -> dict[str, Stage]:
    """The training algorithms by their name, which is also the `stage` in a run's manifest."""
    return {name: one for name, one in commands().items() if isinstance(one, Stage)}


def stage(name: str) -> Stage:
    """The record of a stage. A run of an unknown algorithm gets a record without charts."""
    heading = name.replace("_", " ").capitalize()
    unknown = Stage(
        name=name, help="", config_name="heedful.config:Config", function="", place=LAST, heading=heading, charts=(),
        headline=(), writes_text=False,
    )  # fmt: skip
    return stages().get(name, unknown)


def _place(command: CommandRecord) -> int:
    return command.place if isinstance(command, Stage) else LAST
