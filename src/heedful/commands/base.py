"""What commands are made of: their group, options and help, how to register one, and the options that several share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heedful import terminal
from heedful.configs.stage import named
from heedful.headings import RUN

if TYPE_CHECKING:
    from heedful.config import Config
    from heedful.options import Setting

TRAIN, USE, DATA, PEOPLE, SERVE = "Training", "Using models", "Data", "Labelling", "Serving"
WIDTH = 110  # the most columns of a help text
NAMES = 28  # the most columns for the names of options. A longer name has a line of its own


class Option(click.Option):
    """An option with a heading in the help. One that was made from a config's field holds its `setting`."""

    def __init__(self, *args: Any, panel: str = "Options", setting: Setting | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.panel, self.setting = panel, setting

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        if self.setting is not None and self.setting.kind is bool:
            return f"--[no-]{self.setting.option[2:]}", self.help or ""
        return super().get_help_record(ctx)


def option_of(setting: Setting) -> Option:
    """The option of a field: a switch for a bool, repeatable for a list. The config reads the text of all others."""
    names, switch = [setting.option], setting.kind is bool
    if switch:
        names = [f"{setting.option}/--no-{setting.option[2:]}"]
    elif len(setting.path) == 1:
        names.append(f"-{setting.path}")
    notes = ["Repeatable."] if setting.is_repeatable else []
    if setting.shown_default and (setting.default is not None or setting.required or "none =" in setting.meaning):
        notes.append("[required]" if setting.required else f"[default:\xa0{setting.shown_default}]")
    return Option(
        [setting.path.replace(".", "__"), *names], help=" ".join([setting.meaning, *notes]), panel=setting.panel,
        setting=setting, default=None, multiple=setting.is_repeatable, metavar=None if switch else setting.metavar,
    )  # fmt: skip


Preset = Callable[[str, str], dict[str, Any]]
"""From the name of a preset and a command to settings."""


class Command(click.Command):
    """A command. With `config` it also has an option for each setting, and its function gets the config, `settings`."""

    def __init__(
        self,
        *args: Any,
        panel: str,
        config: str | None = None,
        preset: Preset | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.panel, self.config_name, self.preset = panel, config, preset

    @cached_property
    def config(self) -> type[Config] | None:
        """The class that `module:class` names, imported only when the options are needed."""
        return None if self.config_name is None else named(self.config_name)

    @cached_property
    def _options(self) -> list[Option]:
        if self.config is None:
            return []
        from heedful.options import settings  # `heedful --help` needs neither configs nor pydantic

        return [option_of(setting) for setting in settings(self.config)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        files = [CONFIG_FILE, SETS] if self.config is not None else []
        files = [PRESET, *files] if self.preset is not None else files
        return [*self._options, *files, *super().get_params(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _one_value_each(args, self.get_params(ctx), ctx))

    def invoke(self, ctx: click.Context) -> Any:
        if self.config is not None:
            from heedful.options import loaded, overruled

            given = [(option.setting, ctx.params.pop(str(option.name))) for option in self._options]
            file, sets, name = (ctx.params.pop(key, None) for key in ("config_file", "sets", "preset"))
            preset = self.preset(name, str(self.name)) if self.preset is not None and name is not None else {}
            chosen = [(one, value) for one, value in given if one]
            ctx.params["settings"] = loaded(self.config, chosen, preset, file, sets)
            for remark in overruled(chosen, sets):
                terminal.say(remark)
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        pieces = []
        for param in self.get_params(ctx):
            setting = getattr(param, "setting", None)
            if isinstance(param, click.Option) and (param.required or (setting is not None and setting.required)):
                pieces.append(f"{param.opts[0]} {param.metavar}")
            else:
                pieces += param.get_usage_pieces(ctx)
        return [*pieces, "[OPTIONS]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                panels.setdefault(getattr(param, "panel", RUN), []).append(record)
        _write(formatter, panels)


def _one_value_each(args: list[str], params: list[click.Parameter], ctx: click.Context) -> list[str]:
    """`--seeds 1 2 3` as `--seeds 1 --seeds 2 --seeds 3`, which click reads, for all repeatable options.

    In a command that also takes arguments only the first value belongs to an option, since the next could be an
    argument. Raises UsageError for two values of an option that takes one, of which click would drop the first.
    """
    options = {
        name: param
        for param in params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    takes_arguments = any(isinstance(param, click.Argument) for param in params)
    found: list[str] = []
    seen: dict[click.Option, str] = {}
    name, awaits, full = "", False, False  # the option before, whether it awaits its value, whether it has one
    for place, text in enumerate(args):
        if awaits:
            awaits, full = False, True
        elif text == "--":
            return found + args[place:]
        elif text.startswith("-"):
            name, equals, _ = text.partition("=")
            param = options.get(name)
            if param is not None and not param.multiple:
                _check_new(param, name, seen, ctx)
            awaits, full = param is not None and not param.is_flag and not equals, bool(equals)
        elif full and name in options and not takes_arguments:
            if not options[name].multiple:
                told = f"{text}: {name} takes one value. Put a pattern such as 'shards/*' in quotes"
                raise click.UsageError(told, ctx)
            found.append(name)
        found.append(text)
    return found


def _check_new(param: click.Option, name: str, seen: dict[click.Option, str], ctx: click.Context) -> None:
    """Raise UsageError for an option that was given before. A switch may be repeated, but not contradicted."""
    before = seen.get(param)
    if before is not None and not (param.is_flag and before == name):
        also = f", and as {name}" if before != name else ""
        raise click.UsageError(f"{before}: given twice{also}. Leave one out", ctx)
    seen[param] = name


class Commands(click.Group):
    """All commands under their headings. In each, they are in the order of the code."""

    def by_panel(self) -> dict[str, list[click.Command]]:
        panels: dict[str, list[click.Command]] = {}
        for command in self.commands.values():
            panels.setdefault(getattr(command, "panel", ""), []).append(command)
        return panels

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(command.name) for commands in self.by_panel().values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write(formatter, {
            panel: [(str(command.name), command.get_short_help_str(WIDTH)) for command in commands]
            for panel, commands in self.by_panel().items()
        })  # fmt: skip


def _write(formatter: click.HelpFormatter, panels: dict[str, list[tuple[str, str]]]) -> None:
    width = min(NAMES, max(len(name) for rows in panels.values() for name, _ in rows))
    for panel, rows in panels.items():
        with formatter.section(panel):  # padded, so that the texts of all panels start in one column
            formatter.write_dl([(f"{name:<{width}}", text) for name, text in rows], col_max=NAMES)
    formatter.buffer[:] = [text.replace("\xa0", " ") for text in formatter.buffer]  # they only kept words together


CONFIG_FILE = Option(
    ["config_file", "--config"], metavar="FILE", type=Path, panel=RUN,
    help="Read settings from a TOML file. Options replace what it says.",
)  # fmt: skip
PRESET = Option(
    ["--preset"], metavar="NAME", panel=RUN,
    help="Settings for a model and a machine, such as qwen3-0.6b. --config and options replace them.",
)  # fmt: skip
SETS = Option(
    ["sets", "--set"], metavar="KEY=VALUE", multiple=True, panel=RUN,
    help="One setting by its key in the file, such as optimiser.lr=1e-5. Repeatable.",
)  # fmt: skip


def option(*names: str, panel: str = "Options", **how: Any) -> Option:
    return Option(names, panel=panel, show_default="default" in how, **how)


def argument(name: str, metavar: str, help: str, type: type = Path, **how: Any) -> click.Argument:
    return click.Argument([name], metavar=metavar, help=help, type=type, **how)


class FiniteRange(click.FloatRange):
    """A number between two others. click lets nan and inf through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


def command(
    name: str,
    panel: str,
    *params: click.Parameter,
    config: str | None = None,
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


def is_given(name: str) -> bool:
    """Whether an option of the running command was given, and is not at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


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
