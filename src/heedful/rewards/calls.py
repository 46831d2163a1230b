"""Call reward functions of users: functions, classes and async functions, with the fields of rows that they name."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
from collections.abc import Awaitable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from heedful.config import UserError
from heedful.data.records import Record
from heedful.data.text import counted
from heedful.rewards.modules import Foreign, open_function
from heedful.rollout.types import Episode

log = logging.getLogger(__name__)
MOST = 1e30  # largest reward or weight: float32 can still hold sums of them
_TEXTS = ("prompts", "completions")
_FORM = "It must return a list with one number for each completion, or None for no opinion"
_ASKED = {"prompt", "question", "query", "instruction"}
_ANSWERED = {"completion", "response", "answer", "output", "reply", "generation"}


class FunctionScorer:
    """A user's function as a scorer: score_B in float32, NaN where it has no opinion.

    It is called with `prompts` and `completions`. Further parameters get further lists: `rows` the rows as the file has
    them, any other name that field of each row (None where a row lacks it), `**` all fields.
    """

    def __init__(self, spec: str) -> None:
        self.spec, self.function = spec, open_function(spec)
        self.fields: set[str] | None = None
        with Foreign(spec, "class", (__file__,)):
            if inspect.isclass(self.function):
                made: Any = self.function()
                self.function = made
        if not callable(self.function):
            raise UserError(
                f"{spec}: its objects cannot be called. Give the class a __call__(self, prompts, completions)"
            )
        self.before: str | None = None
        self.first: set[str] = set()
        self.what = "function"
        self.named, self.others, self.takes_all = self._parameters()

    def check(self, records: Iterable[Record]) -> None:
        """Raise UserError if the function asks for a field that none of these rows has. Log it if it has a default."""
        if self.others or self.takes_all or self.first:
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
        with Foreign(self.spec, self.what, (__file__,)):
            found = self.function(*positional, **given)
            numbers = self._numbers(_awaited(found) if inspect.isawaitable(found) else found)
        if len(numbers) != len(episodes):
            returned = f"{counted(len(numbers), 'numbers')} for {counted(len(episodes), 'completions')}"
            raise UserError(f"{self.spec}: returned {returned}. {_FORM}")
        return torch.tensor([self._number(number) for number in numbers])

    def _parameters(self) -> tuple[set[str], dict[str, bool], bool]:
        """(texts that it takes by name, its other parameters and whether each is needed, whether it takes all fields).

        A function that does not name its `completions` takes prompts and completions as its first two arguments.
        """
        called = getattr(self.function, "forward", None) if isinstance(self.function, torch.nn.Module) else None
        try:
            parameters = list(inspect.signature(called or self.function).parameters.values())
        except (TypeError, ValueError):
            return set(), {}, False  # written in C
        takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
        takes_any = any(one.kind is one.VAR_POSITIONAL for one in parameters)
        if takes_all and takes_any and len(parameters) == 2:
            self.what = "function, or use functools.wraps in its decorator"
        parameters = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        named = {one.name for one in parameters if one.name in _TEXTS and one.kind is not one.POSITIONAL_ONLY}
        if named == {"completions"} and len(parameters) > 1 and parameters[1].name == "completions":
            self.before = parameters[0].name
        if "completions" not in named and (parameters or not takes_all):
            self._check_first([one for one in parameters if one.kind is not one.KEYWORD_ONLY], takes_any)
            self.first = {one.name for one in parameters[:2] if one.kind is not one.POSITIONAL_ONLY}
            named, parameters = set(), parameters[2:]
        elif not parameters:
            named = set(_TEXTS)
        others = {one.name: one.default is one.empty for one in parameters if one.name not in named}
        return named, others, takes_all

    def _check_first(self, parameters: list[inspect.Parameter], takes_any: bool) -> None:
        """Raise UserError for a function that cannot take prompts and completions in this order."""
        names = [one.name for one in parameters[:2]]
        if len(names) < 2 and not takes_any:
            takes = f"only {names[0]}" if names else "neither prompts nor completions"
            raise UserError(f"{self.spec}: takes {takes}. Write f(prompts, completions), or f(completions)")
        first, second = (*(name.lower().removesuffix("s") for name in names), "", "")[:2]
        if first in _ANSWERED or second in _ASKED:
            raise UserError(
                f"{self.spec}: takes {' and then '.join(names)}, and heedful gives the prompts first. Call them"
                " completions and prompts, then the order does not matter"
            )

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
        usual = set() if self.takes_all else {"prompt", "completion"}  # fields of files, and names of what it gets
        if clash := sorted(self.first & there - usual):
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
            name = type(found).__name__
            kind = "" if found is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}, "
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


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
