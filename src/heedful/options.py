"""Command-line options made from the fields of a config, and the look of every help text."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click

from heedful.config import INPUT, REST, Config, UserError, kinds_of, load

RUN = "Run"
METAVARS: dict[Any, str] = {int: "N", float: "NUMBER", datetime: "TIME"}
WIDTH = 110  # the most columns of a help text
NAMES = 28  # the most columns for the names of options. A longer name has a line of its own


@dataclass(frozen=True)
class Setting:
    """One field of a config or of one of its sections."""

    path: str
    """Its name with the section in front: `optimiser.lr`."""
    panel: str
    """Heading in the help."""
    meaning: str
    """The docstring under the field."""
    kind: Any
    """Its type, without `None`."""
    metavar: str
    """What stands for the value in the help."""
    default: Any
    required: bool

    @property
    def option(self) -> str:
        return f"--{self.path.replace('_', '-')}"

    @property
    def is_repeatable(self) -> bool:
        return get_origin(self.kind) in (list, tuple, dict)

    @property
    def shown_default(self) -> str:
        """The default as one writes it on the command line. An empty list needs none."""
        if self.required:
            return "required"
        if isinstance(self.default, dict):
            return " ".join(f"{name}={value}" for name, value in self.default.items())
        if isinstance(self.default, list | tuple):
            return " ".join(self.default)
        if self.default is None or isinstance(self.default, bool):
            return {None: "none", True: "on", False: "off"}[self.default]
        return str(self.default)

    def overrides(self, given: Any) -> Iterator[str]:
        """A value from the command line as `key=value`."""
        if isinstance(given, bool):
            yield f"{self.path}={str(given).lower()}"
        elif get_origin(self.kind) is dict:
            for entry in given:
                yield f"{self.path}.{entry}"
        elif not self.is_repeatable:
            yield f"{self.path}={given}"


def settings(config: type[Config], section: str = "", values: Config | None = None) -> list[Setting]:
    """Every setting of a config, panel by panel: inputs first, then other panels, "Settings" and the sections.

    `values`: the defaults of a section.
    """
    meanings = docstrings(config)
    panels = {name: panel for base in reversed(config.__mro__) for name, panel in getattr(base, "panels", {}).items()}
    panel = section.replace("_", " ").capitalize() or REST
    own: dict[str, list[Setting]] = {}
    of_sections: list[Setting] = []
    for name, field in config.model_fields.items():
        default = getattr(values, name) if values is not None else field.default
        if isinstance(default, Config):
            of_sections += settings(type(default), name, default)
            continue
        panel = panels.get(name, panel)
        kind = kinds_of(field)[0]
        metavar = next(_metavars([*field.metadata, field.annotation]), None) or _metavar(kind)
        path = f"{section}.{name}" if section else name
        required = values is None and field.is_required()
        default = None if required else default
        own.setdefault(panel, []).append(Setting(path, panel, meanings.get(name, ""), kind, metavar, default, required))
    order = sorted(own, key=lambda name: (name != INPUT, name == REST))  # otherwise as in the config
    late = {name for base in config.__mro__ if vars(base).get("shown_last") for name in base.__annotations__}
    return [one for name in order for one in sorted(own[name], key=lambda one: one.path in late)] + of_sections


@cache
def docstrings(config: type[Config]) -> dict[str, str]:
    """The docstring under each field of a config, on one line."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if issubclass(base, Config):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            for field, text in pairwise(body.body):  # type: ignore[attr-defined]
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found


def _metavars(places: list[Any]) -> Iterator[str]:
    """Names for values given as `Annotated[str, "FILE"]`, at any depth of a type."""
    for place in places:
        if isinstance(place, str):
            yield place
        elif get_origin(place) is not Literal:
            yield from _metavars([*getattr(place, "__metadata__", ()), *get_args(place)])


def _metavar(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        return _metavar(inner[0])
    if get_origin(kind) is Literal:
        return "|".join(inner)
    if get_origin(kind) is dict:
        return f"NAME={_metavar(inner[1])}"
    if get_origin(kind) in (list, tuple):
        return _metavar(inner[0])
    return METAVARS.get(kind, "TEXT")


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
        config: type[Config] | str | None = None,
        preset: Preset | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.panel, self._config, self._preset = panel, config, preset

    @cached_property
    def config(self) -> type[Config] | None:
        """The class, or what `module:class` names, imported only when the options are needed."""
        if not isinstance(self._config, str):
            return self._config
        module, _, name = self._config.partition(":")
        return getattr(import_module(module), name)

    @cached_property
    def _options(self) -> list[Option]:
        return [option_of(setting) for setting in settings(self.config)] if self.config is not None else []

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        files = [CONFIG_FILE, SETS] if self.config is not None else []
        files = [PRESET, *files] if self._preset is not None else files
        return [*self._options, *files, *super().get_params(ctx)]

    def invoke(self, ctx: click.Context) -> Any:
        if self.config is not None:
            given = [(option.setting, ctx.params.pop(str(option.name))) for option in self._options]
            file, sets, name = (ctx.params.pop(key, None) for key in ("config_file", "sets", "preset"))
            preset = self._preset(name, str(self.name)) if self._preset is not None and name is not None else {}
            chosen = [(one, value) for one, value in given if one]
            ctx.params["settings"] = _loaded(self.config, chosen, preset, file, sets)
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


def _loaded(
    config: type[Config], given: list[tuple[Setting, Any]], preset: dict[str, Any], file: Path | None,
    sets: tuple[str, ...],
) -> Config:  # fmt: skip
    """The config from the preset, over it the file, over it the options, over them `--set`."""
    given = [(setting, value) for setting, value in given if value not in (None, ())]
    overrides = [override for setting, value in given for override in setting.overrides(value)]
    # lists replace that of the file, and so do mappings: they begin empty, and the overrides fill them
    lists: dict[str, Any] = {
        setting.path: {} if get_origin(setting.kind) is dict else list(value)
        for setting, value in given
        if setting.is_repeatable and "." not in setting.path
    }
    overrides += [
        f"{setting.path}={json.dumps(list(value), ensure_ascii=False)}"  # a list of a section
        for setting, value in given
        if get_origin(setting.kind) in (list, tuple) and "." in setting.path
    ]
    named = {*preset, *(setting.path for setting, _ in given)} | {text.partition("=")[0].strip() for text in sets}
    for setting in settings(config):
        if setting.required and file is None and setting.path not in named:
            raise UserError(f"{setting.option} is missing. See --help")
    return load(config, file, [*overrides, *sets], preset, **lists)


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
