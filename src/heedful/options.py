"""The settings of a config as the command line knows them, and the config from what is given there. No click."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from heedful.config import Config, UserError, kinds_of, load
from heedful.headings import INPUT, REST

METAVARS: dict[Any, str] = {int: "N", float: "NUMBER", datetime: "TIME"}


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
            for field, text in pairwise(_classes(base.__module__)[base.__qualname__]):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of every class of a module, by its qualified name. Python needs long to find one class alone."""
    found: dict[str, list[ast.stmt]] = {}

    def look(body: list[ast.stmt], before: str) -> None:
        for one in body:
            if isinstance(one, ast.ClassDef):
                found[before + one.name] = one.body
                look(one.body, f"{before}{one.name}.")
            elif isinstance(one, ast.FunctionDef):
                look(one.body, f"{before}{one.name}.<locals>.")

    look(ast.parse(inspect.getsource(sys.modules[module])).body, "")
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


def loaded(
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


def overruled(given: list[tuple[Setting, Any]], sets: tuple[str, ...]) -> Iterator[str]:
    """A line for each option or `--set` whose value is not used, since a later `--set` gives another one."""
    said: dict[str, tuple[str, str]] = {}  # what was written, and its value
    for setting, value in given:
        if isinstance(value, bool):
            said[setting.path] = (setting.option if value else f"--no-{setting.option[2:]}", str(value).lower())
        elif get_origin(setting.kind) in (list, tuple) and value not in (None, ()):
            said[setting.path] = (f"{setting.option} {' '.join(map(str, value))}", json.dumps(list(value)))
        elif value not in (None, ()):
            for override in setting.overrides(value):
                path, _, text = override.partition("=")
                said[path] = (f"{setting.option} {override[len(setting.path) + 1 :]}", text)
    for override in sets:
        path, text = (part.strip() for part in (*override.split("=", 1), "")[:2])
        for earlier in [one for one in said if one == path or one.startswith(f"{path}.")]:
            written, before = said.pop(earlier)
            if before != text:
                yield f"{written}: not used, since --set {override} replaces it. Leave one out"
        said[path] = (f"--set {override}", text)
