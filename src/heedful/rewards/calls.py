"""Call reward functions of users: functions, classes and async functions, with the fields of rows that they name."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import importlib.util
import inspect
import logging
import math
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from heedful.config import NonFinite, UserError
from heedful.data.records import Record
from heedful.rollout.types import Episode

log = logging.getLogger(__name__)
MOST = 1e30  # largest reward or weight: float32 can still hold sums of them
_TEXTS = ("prompts", "completions")
_FORM = "It must return a list with one number for each completion, or None for no opinion"


class FunctionScorer:
    """A user's function as a scorer: score_B in float32, NaN where it has no opinion.

    It is called with `prompts` and `completions`. Further parameters get further lists: `rows` the rows as the file has
    them, any other name that field of each row (None where a row lacks it), `**` all fields.
    """

    def __init__(self, spec: str) -> None:
        self.spec, self.function = spec, open_function(spec)
        self.fields: set[str] | None = None
        with _Foreign(spec, "class"):
            if inspect.isclass(self.function):
                made: Any = self.function()
                self.function = made
        if not callable(self.function):
            raise UserError(
                f"{spec}: its objects cannot be called. Give the class a __call__(self, prompts, completions)"
            )
        self.before: str | None = None
        self.first: set[str] = set()
        self.named, self.others, self.takes_all = self._parameters()

    def check(self, records: Iterable[Record]) -> None:
        """Raise UserError if the function asks for a field that none of these rows has. Log it if it has a default."""
        if self.others or self.takes_all:
            self.fields = {field for record in records for field in record.row()}
            self._fields_for(self.fields)
            for name, needed in self.others.items():
                if not needed and name not in self.fields | {"rows"}:
                    log.warning("%s: no row has the field '%s', so its default is used", self.spec, name)

    def __call__(self, episodes: list[Episode]) -> Tensor:
        texts = [e.prompt for e in episodes], [e.completion for e in episodes]
        positional = [] if self.named else list(texts)
        given: dict[str, Any] = {name: value for name, value in zip(_TEXTS, texts, strict=True) if name in self.named}
        if self.others or self.takes_all:
            rows = [e.record.row() if e.record is not None else {} for e in episodes]
            fields = self._fields_for(self.fields or {field for row in rows for field in row})
            if self.before is not None and self.before not in fields:
                given[self.before] = texts[0]
            given |= {field: [row.get(field) for row in rows] for field in fields}
            if "rows" in self.others or self.takes_all:
                given["rows"] = rows
        with _Foreign(self.spec, "function"):
            found = self.function(*positional, **given)
            numbers = self._numbers(_awaited(found) if inspect.isawaitable(found) else found)
        if len(numbers) != len(episodes):
            raise UserError(f"{self.spec}: returned {len(numbers)} numbers for {len(episodes)} completions. {_FORM}")
        return torch.tensor([self._number(number) for number in numbers])

    def _parameters(self) -> tuple[set[str], dict[str, bool], bool]:
        """(texts that it takes by name, its other parameters and whether each is needed, whether it takes all fields).

        A function that does not name its `completions` takes prompts and completions as its first two arguments.
        """
        try:
            parameters = list(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError):
            return set(), {}, False  # written in C
        takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
        parameters = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        named = {one.name for one in parameters if one.name in _TEXTS and one.kind is not one.POSITIONAL_ONLY}
        if named == {"completions"} and len(parameters) > 1 and parameters[1].name == "completions":
            self.before = parameters[0].name
        first, second = ([one.name for one in parameters] + ["", ""])[:2]
        if "completions" not in named and first.startswith("completion") and second.startswith("prompt"):
            raise UserError(
                f"{self.spec}: takes {first} and then {second}, and heedful gives the prompts first. Call them"
                " completions and prompts, then the order does not matter"
            )
        if "completions" not in named and (parameters or not takes_all):
            self.first = {one.name for one in parameters[:2] if one.kind is not one.POSITIONAL_ONLY}
            named, parameters = set(), parameters[2:]
        elif not parameters:
            named = set(_TEXTS)
        others = {one.name: one.default is one.empty for one in parameters if one.name not in named}
        return named, others, takes_all

    def _fields_for(self, there: set[str]) -> list[str]:
        """The fields to give it, of those that are there. Raises UserError if one that it needs is not."""
        wanted = [name for name in self.others if name != "rows"]
        # in f(asked, completions), `asked` is a field if there is one of this name, else the prompts
        lacking = [name for name in wanted if name not in there and self.others[name] and name != self.before]
        if lacking:
            raise UserError(
                f"{self.spec}: asks for the field '{lacking[0]}', which no row has. The rows have "
                f"{', '.join(sorted(there)) or 'no fields'}. Add it to the rows, or rename the parameter"
            )
        if self.takes_all and (clash := sorted(self.first & there)):
            raise UserError(
                f"{self.spec}: its parameter {clash[0]} gets the prompts or the completions, and the rows have a field"
                " of that name, too. Rename the parameter"
            )
        return [name for name in (sorted(there - set(_TEXTS)) if self.takes_all else wanted) if name in there]

    def _numbers(self, found: object) -> list[object]:
        """What the function returned as a list: of a list, a tuple, an array, a tensor or anything else in order."""
        if hasattr(found, "tolist"):  # arrays, tensors and columns of tables
            found = found.tolist()
        if isinstance(found, str | bytes | Mapping | set | frozenset) or not isinstance(found, Iterable):
            kind = "" if found is None else f"a {type(found).__name__}, "
            raise UserError(f"{self.spec}: returned {kind}{_shown(found)}. {_FORM}")
        return list(found)

    def _number(self, number: Any) -> float:
        if number is None:
            return math.nan
        try:
            value = number.item() if hasattr(number, "item") else number
            value = math.nan if isinstance(value, str | bytes) else float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            value = math.nan
        if not abs(value) <= MOST:
            raise UserError(
                f"{self.spec}: returned {_shown(number)}. A reward must be a finite number, or None for no opinion"
            )
        return value


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all async rewards, in a thread of its own: their clients keep connections between calls."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="async rewards", daemon=True).start()
    return loop


def _awaited(found: Awaitable[object]) -> object:
    async def whole() -> object:
        return await found

    return asyncio.run_coroutine_threadsafe(whole(), _loop()).result()


def file_of(spec: str) -> Path | None:
    """The file of the module of `module:function`. None if it has none, or if it cannot be found."""
    _find_here()
    with _Foreign(spec, "module"):  # finding a.b imports a
        try:
            found = importlib.util.find_spec(spec.partition(":")[0])
        except (ImportError, ValueError, SyntaxError):
            return None  # opening it says why
    return Path(found.origin) if found is not None and found.has_location and found.origin else None


def _find_here() -> None:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def open_function(spec: str) -> Callable[..., Any]:
    """Import `module:function`. Modules in the current directory are found, too."""
    module_name, _, name = spec.partition(":")
    _find_here()
    with _Foreign(spec, "module"):
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            why = f"cannot import {module_name} ({error}). Is it in this directory or installed?"
            raise UserError(f"{spec}: {why}") from None
        except SyntaxError as error:
            raise UserError(f"{spec}: {error.filename}, line {error.lineno}: {error.msg}. Fix the module") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{spec}: {module_name} has no function {name}")
    opened: Callable[..., Any] = function
    return opened


_LIBRARIES = (asyncio.__file__, concurrent.futures.__file__)
_NOT_THEIRS = (__file__, "<frozen", importlib.__file__, *(str(Path(file).parent) for file in _LIBRARIES))


class _Foreign:
    """A context for the user's code: any exception becomes a UserError that names the code and its line.

    A reward function may call servers and libraries, so it may raise anything. The exception stays as the cause.
    """

    def __init__(self, spec: str, what: str) -> None:
        self.spec, self.what = spec, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, Exception | SystemExit) or isinstance(error, UserError | NonFinite):
            return
        raised = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
        raise UserError(f"{self.spec}: raised {raised}{_line_of(trace)}. Fix the {self.what}") from error


def _line_of(trace: TracebackType | None) -> str:
    """The last line of the user's own file before an exception, or "" if none of that is Python."""
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_NOT_THEIRS)]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
