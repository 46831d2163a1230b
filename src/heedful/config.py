"""Configuration: frozen, unknown keys are errors, TOML in, `--set section.key=value` on top.

Every stage keeps its own config class beside its loop; this module holds what they share.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class UserError(ValueError):
    """Something a user can cause and mend: one line naming what, where, and the remedy. The CLI exits with 2."""


class Config(BaseModel):
    """Base of all configs: immutable, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


C = TypeVar("C", bound=Config)


def load(cls: type[C], path: str | Path | None = None, overrides: list[str] | None = None, **inputs: Any) -> C:
    """Resolve a config: defaults, then the TOML file, then `inputs` that are not None, then `a.b=c` overrides.

    Raises UserError naming the file and the key for anything that does not fit.
    """
    values: dict[str, Any] = _read_toml(Path(path)) if path is not None else {}
    values.update({key: value for key, value in inputs.items() if value is not None})
    for override in overrides or []:
        _assign(values, override)
    return build(cls, values, source=str(path) if path is not None else "the options")


def build(cls: type[C], values: dict[str, Any], source: str) -> C:
    """Validate `values`, turning pydantic's report into one line."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, cls)}") from None


def explain(error: ValidationError, cls: type[BaseModel]) -> str:
    """The first problem of a validation error as one line with its remedy."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(cls, problem["loc"][:-1])
        return f"unknown key '{key}'; known here: {', '.join(sorted(known))}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    shown = repr(problem.get("input"))
    value = "" if problem["type"] == "missing" else f" (got {shown[:60] + '…' if len(shown) > 60 else shown})"
    return f"'{key}': {message}{value}" if key else f"{message}"


def _fields_at(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = cls.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        cls = inner
    return list(cls.model_fields)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error})") from None


def _assign(values: dict[str, Any], override: str) -> None:
    key, found, text = override.partition("=")
    if not found or not key.strip():
        raise UserError(f"--set {override}: write it as section.key=value")
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: '{section}' is not a section")
    values[last] = _literal(text.strip())


def _literal(text: str) -> Any:
    """A TOML value where it reads as one, else the bare string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
