"""Write docs/commands.md: text by hand up to the mark, then a table for each command, made from the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from heedful import cli
from heedful.commands.base import Command, Commands, Option, option_of
from heedful.config import Config
from heedful.configs.endpoint import EndpointConfig
from heedful.configs.engine import EngineConfig
from heedful.configs.shared import Checkpointing, Compute, Generation, Lora, Optimiser
from heedful.options import Setting, settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
MARK = "<!-- `python scripts/commands.py` writes everything below this line. -->\n"
SECTIONS: dict[str, type[Config]] = {
    "optimiser": Optimiser, "generation": Generation, "compute": Compute, "checkpoint": Checkpointing,
    "endpoint": EndpointConfig, "lora": Lora, "engine": EngineConfig,
}  # fmt: skip


def page() -> str:
    """The whole page as it should be."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + "\n".join(_blocks())


def _blocks() -> Iterator[str]:
    assert isinstance(cli.app, Commands)
    for panel, commands in cli.app.by_panel().items():
        yield f"## {panel}\n"
        for command in commands:
            assert isinstance(command, Command)
            yield from _command(command)
    yield "## Shared sections\n"
    for name, cls in SECTIONS.items():
        rows = [_row(_names(option_of(one)), one.shown_default, one.meaning) for one in settings(cls, name)]
        yield f"### {name}\n"
        yield _table(rows)


def _command(command: Command) -> Iterator[str]:
    context = command.make_context(f"heedful {command.name}", [], resilient_parsing=True)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield f"### {command.name}\n\n{inspect.cleandoc(command.help or '')}\n\n```\n{usage}\n```\n"
    rows, sections = [], []
    for param in command.get_params(context):
        setting = getattr(param, "setting", None)
        if setting is not None:
            section = setting.path.rpartition(".")[0]
            sections += [section] if section.removeprefix("value_") in SECTIONS or not section else []
            if not section or _differs(setting):
                rows.append(_row(_names(param), setting.shown_default, setting.meaning))
        elif isinstance(param, Option) and param.name not in ("config_file", "sets"):
            default = "required" if param.required else _shown(param.default) if param.show_default else ""
            rows.append(_row(_names(param), default, param.help or ""))
        elif isinstance(param, click.Argument):
            rows.append(_row(str(param.metavar), "required" if param.required else "", param.help or ""))
    if rows:
        yield _table(rows)
    links = [f"[{name}](#{name.removeprefix('value_')})" for name in dict.fromkeys(sections) if name]
    if links:
        yield f"It also has the settings of {', '.join(links)}.\n"


def _differs(setting: Setting) -> bool:
    """Whether the section of other commands lacks the setting, or has another default."""
    section, _, name = setting.path.partition(".")
    shared = SECTIONS.get(section.removeprefix("value_"), Config).model_fields
    return name not in shared or bool(shared[name].default != setting.default)


def _names(option: Option) -> str:
    if option.setting is not None and option.setting.kind is bool:
        return f"--[no-]{option.setting.option[2:]}"
    return ", ".join(sorted(option.opts, key=len)) + (f" {option.metavar}" if option.metavar else "")


def _shown(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)


def _row(name: str, default: str, meaning: str) -> str:
    shown = f"`{default}`" if default not in ("", "required") else default
    cells = (text.replace("|", "\\|") for text in (f"`{name}`", shown, meaning))
    return f"| {' | '.join(cells)} |"


def _table(rows: list[str]) -> str:
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
