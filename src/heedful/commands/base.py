"""What commands are made of: their group, how to register one, and the options that several share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from heedful.config import Config
from heedful.options import RUN, WIDTH, Command, Commands, Option, Preset

TRAIN, USE, DATA, PEOPLE, SERVE = "Training", "Using models", "Data", "Labelling", "Serving"


def option(*names: str, panel: str = "Options", **how: Any) -> Option:
    return Option(names, panel=panel, show_default="default" in how, **how)


def argument(name: str, metavar: str, help: str, type: type = Path, **how: Any) -> click.Argument:
    return click.Argument([name], metavar=metavar, help=help, type=type, **how)


def command(
    name: str,
    panel: str,
    *params: click.Parameter,
    config: type[Config] | str | None = None,
    help: str | None = None,
    preset: Preset | None = None,
    **more: Any,
) -> Callable[[Callable[..., Any]], None]:
    """Register a function as the command `name`, its docstring as the help. `more`: settings of click's."""

    def register(function: Callable[..., Any]) -> None:
        text = help or inspect.getdoc(function)
        how = {"params": list(params), "help": text, "panel": panel, "config": config, "preset": preset, **more}
        app.add_command(Command(name, callback=function, **how))

    return register


OUT_RUN = option("--out", type=Path, required=True, metavar="RUN", help="New folder for the run.", panel=RUN)
OUT_ROWS = option(
    "--out", type=Path, required=True, metavar="FILE", help="New file: .jsonl, .jsonl.gz or .parquet.", panel=RUN
)
OVERWRITE = option("--overwrite", is_flag=True, help="Replace an existing file.", panel=RUN)
RESUME = option("--resume", is_flag=True, help="Continue after an interruption.", panel=RUN)
AS_JSON = option("--json", "as_json", is_flag=True, help="Print the results as one line of JSON.", panel=RUN)
DB = option("--db", default="heedful.db", metavar="DB", help="SQLite file or postgresql:// URL.")


@click.group(
    cls=Commands,
    epilog="heedful COMMAND --help shows every setting of a command.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.version_option(package_name="heedful", message="heedful %(version)s", help="Show the version.")
def app() -> None:
    """Train language models from human feedback with the method of InstructGPT.

    Supervised fine-tuning, a reward model from people's rankings, PPO, evaluation, and the labelling app.
    """
