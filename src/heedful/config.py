"""The base of all configs, and how they are read from TOML and from options.

The config class of each command is in `configs`. The errors come from `errors`: take them from there in modules that
`heedful --help` loads, since this one loads pydantic.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from heedful.errors import NonFinite as NonFinite
from heedful.errors import UserError as UserError
from heedful.errors import install as install
from heedful.errors import refused as refused
from heedful.headings import INPUT as INPUT
from heedful.headings import REST as REST


class Config(BaseModel):
    """Base of all configs. It is immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )
    panels: ClassVar[dict[str, str]] = {}
    """Headings in the help: the first field under a heading, and the heading."""
    shown_last: ClassVar[bool] = False
    """Whether the help shows the fields of this class itself behind those of its subclasses, under each heading."""
    may_change: ClassVar[tuple[str, ...]] = ()
    """Settings that change no result beyond rounding. Work that is resumed takes their new values."""
    may_grow: ClassVar[tuple[str, ...]] = ()
    """Settings that make a run longer. A run that is resumed takes a larger value and recomputes its schedules."""

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        """Merge a section that is given in part into its default."""
        return _merged(cls.model_fields, values) if isinstance(values, dict) else values

    @field_validator("*", mode="before")
    @classmethod
    def _sensible(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for a number, and numbers that nobody means."""
        for one in refuse_truth(cls.model_fields.get(info.field_name or ""), value):
            if isinstance(one, int | float) and LARGEST < abs(one) < math.inf:
                raise ValueError(f"the largest number is {LARGEST:.0e}")
        return value


def refuse_truth(field: FieldInfo | None, value: Any) -> Iterable[Any]:
    """Raise ValueError for true or false where a field holds numbers: they would be 1 and 0. Returns its parts."""
    kinds = kinds_of(field)
    inner = [_plain(get_args(kind)[-1]) for kind in kinds if get_origin(kind) in (dict, list, tuple)]
    several = isinstance(value, dict | list | tuple) and bool(inner)
    parts: list[Any] = list(value.values() if isinstance(value, dict) else value) if several else [value]
    wanted = inner if several else kinds
    if {int, float} & set(wanted) and bool not in wanted:
        for one in parts:
            if isinstance(one, bool):
                raise ValueError(f"a number is needed, not {str(one).lower()}")
    return parts


def resumable(config: Config, kind: Literal["may_change", "may_grow"]) -> set[str]:
    """The keys of `config` and its sections that a resumed run may change, or let grow."""
    keys = {key for base in type(config).__mro__ for key in vars(base).get(kind, ())}
    for name, section in config:
        if isinstance(section, Config):
            keys |= {f"{name}.{key}" for key in resumable(section, kind)}
    return keys


LARGEST = 1e15
"""More than any setting needs."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
MOST = 10**9
"""More rows, steps or tokens at once than anybody has."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Length = Annotated[int, Field(ge=1, le=2**24)]
"""Tokens of one text."""
Share = Annotated[float, Field(ge=0, le=1)]

IN_ADDRESS = ConfigDict(defer_build=False)
"""For a config that a route reads from an address. Only while it makes routes, FastAPI silences a warning."""

C = TypeVar("C", bound=Config)


def load(
    cls: type[C], path: str | Path | None = None, overrides: list[str] | None = None,
    preset: dict[str, Any] | None = None, **inputs: Any,
) -> C:  # fmt: skip
    """Build a config: its defaults, `preset`, the TOML file, `inputs` that are not None, `a.b=c` overrides.

    What comes later replaces what came before, in a section key by key. Raises UserError with the source and the key
    of the first problem.
    """
    values: dict[str, Any] = laid_over(preset or {}, _read_toml(Path(path)) if path is not None else {})
    values.update({key: value for key, value in inputs.items() if value is not None})
    for override in overrides or []:
        _assign(cls, values, override)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        given = {*inputs, *(override.partition("=")[0].strip() for override in overrides or [])}
        source = "the options" if path is None or key in given else str(path)
        raise UserError(f"{source}: {explain(error, cls)}") from None


def build(cls: type[C], values: dict[str, Any], source: str) -> C:
    """Validate `values`. Raises UserError with the first problem in one line."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, cls)}") from None


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, in sections key by key."""
    both = dict(below)
    for key, value in above.items():
        under = below.get(key)
        both[key] = laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def explain(error: ValidationError, cls: type[BaseModel], field: str = "") -> str:
    """The first problem of a validation error in one line: which key, what is wrong, what was given or is needed.

    `field` is a word before the key.
    """
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(cls, problem["loc"][:-1])
        return f"unknown key '{key}'. Known here: {', '.join(sorted(known))}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        needed = [name for name, info in _fields_at(cls, problem["loc"][:-1]).items() if info.is_required()]
        message = f"missing. Required: {', '.join(needed)}." if needed else "missing"
    elif problem["type"] != "value_error":  # a validator of ours says in its message what was given, if that helps
        shown = repr(problem["input"])
        message = f"{plain(message)}, not {shown[:60] + '…' if len(shown) > 60 else shown}"
    return f"{field}'{key}': {message}" if key else message


_PLAIN = {
    "Input should be ": "must be ", "a valid integer, unable to parse string as an integer": "a whole number",
    "a valid integer, got a number with a fractional part": "a whole number", "a valid integer": "a whole number",
    "a valid number, unable to parse string as a number": "a number", "a valid number": "a number",
    "a valid boolean, unable to interpret input": "true or false", "a valid boolean": "true or false",
    "a valid string": "a string", "a valid list": "a list", "a valid dictionary": "a table of settings",
    "greater than or equal to ": "at least ", "less than or equal to ": "at most ",
}  # fmt: skip


def plain(message: str) -> str:
    """A message of pydantic in plain words."""
    for theirs, ours in _PLAIN.items():
        message = message.replace(theirs, ours)
    return message[0].lower() + message[1:]


def _merged(fields: dict[str, FieldInfo], values: dict[str, Any]) -> dict[str, Any]:
    """`values` with every section laid over the default of its field."""
    merged = dict(values)
    for name, field in fields.items():
        given = values.get(name)
        if isinstance(field.default, Config) and isinstance(given, dict):
            merged[name] = {key: getattr(field.default, key) for key in field.default.model_fields_set} | given
    return merged


def _fields_at(cls: type[BaseModel], location: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The fields of the section at `location`. Empty where there is no such section."""
    for part in location:
        field = cls.model_fields.get(str(part))
        sections = [kind for kind in kinds_of(field) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            return {}
        cls = sections[0]
    return cls.model_fields


def kinds_of(field: FieldInfo | None) -> list[Any]:
    """The types a field may hold, without `None` and without annotations."""
    annotation = field.annotation if field is not None else None
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return [_plain(kind) for kind in kinds if kind is not NoneType]


def _plain(kind: Any) -> Any:
    """A type without its annotations."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deep. Use a few levels") from None


def _assign(cls: type[BaseModel], values: dict[str, Any], override: str) -> None:
    """Set `a.b=c` in `values`. The sections on the way are copied, since the caller may own them."""
    key, text = _split(cls, override)
    *sections, last = parts = key
    if "=" not in override or not all(parts):
        raise UserError(f"--set {override}: write it as section.key=value")
    for section in sections:
        inner = values.get(section, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}: '{section}' is not a section")
        values[section] = values = dict(inner)
    field, text = _fields_at(cls, sections).get(last), text.strip()
    kinds = kinds_of(field)
    if text.lower() == "none" and field is not None and NoneType in get_args(field.annotation):
        values[last] = None
    else:
        values[last] = _literal(text, is_text=bool(kinds) and set(kinds) <= {str, Path})


def _split(cls: type[BaseModel], override: str) -> tuple[list[str], str]:
    """The parts of the key, and the text of the value. Names of a mapping may hold dots: `groups.in.house=0.5`."""
    key, _, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    for number, part in enumerate(parts[:-1], 1):
        for kind in kinds_of(_fields_at(cls, parts[: number - 1]).get(part)):
            if get_origin(kind) is dict:
                rest = override.split(".", number)[number]
                of_numbers = _plain(get_args(kind)[1]) in (int, float)  # their text holds no "="
                name, _, text = rest.rpartition("=") if of_numbers else rest.partition("=")
                name = name.strip()
                quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
                return [*parts[:number], name[1:-1] if quoted else name], text
    return parts, text


def _literal(text: str, is_text: bool) -> Any:
    """Parse `text` as a TOML value, else keep it as a string. For a text field, parse only a quoted string."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = document.pop("value")
    return text if document or (is_text and not isinstance(value, str)) else value
