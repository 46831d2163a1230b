"""What the shapes of rows are made of: the table's entry, fields, texts, numbers, and rankings from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from heedful.files import Row

Convert = Callable[[Row], list[Row]]


class NoJudgement(ValueError):
    """The row was not judged, or its judgement says nothing. Such rows are counted and left out."""


@dataclass(frozen=True)
class Shape:
    """The shape of rows of a public data set or tool.

    `convert` turns a row into rows with the fields of records. It raises ValueError "field 'x': what. Remedy." for a
    malformed row. Fields that it does not use stay in the row.
    """

    name: str
    kind: str | Callable[[Row], str]
    """The kind of the records, or a function that tells it."""
    fields: str
    """The fields that tell the shape, for the documentation."""
    source: str
    """Where the names of the fields were looked up."""
    match: Callable[[Row], bool]
    convert: Convert
    unfit: Callable[[Row], str | None] | None = None
    """The reason why nothing but a prompt can be read from the row, or None."""
    group: Callable[[Row], Hashable] | None = None
    """The rows with the same group are converted together by `gather` instead of `convert`."""
    gather: Callable[[list[Row]], list[Row]] | None = None
    others: dict[str, Callable[[list[Row]], list[Row]]] = field(default_factory=dict)
    """For another kind of record than `kind`: the function that makes such rows of the rows of a group."""

    def kind_of(self, row: Row) -> str:
        """The kind of the records of a row."""
        return self.kind if isinstance(self.kind, str) else self.kind(row)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn the error of a value of another type than the shape has, such as a number for a list, into one line."""
        try:
            yield
        except (TypeError, AttributeError, LookupError) as error:
            raise ValueError(
                f"a field holds another type of value than rows of {self.name} do. Correct it or leave the row out."
            ) from error


def having(*names: str, without: Sequence[str] = ()) -> Callable[[Row], bool]:
    """A test of a row: it has all these fields, and none of the others."""
    needed, barred = set(names), set(without)
    return lambda row: needed <= row.keys() and not barred & row.keys()


def rest(row: Row, *used: str) -> Row:
    """The fields of a row that are not used."""
    return {key: value for key, value in row.items() if key not in used}


def filled(row: Row, name: str) -> bool:
    """Whether a field has a value that says something."""
    return row.get(name) not in (None, "", [], {})


def text(row: Row, name: str) -> str:
    """The text of a field."""
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(
            f"field '{name}': " + ("missing. Give it or leave the row out." if value is None else "must be a string")
        )
    return value


def number(row: Row, name: str) -> float:
    """The number of a field, also from a cell of a table."""
    value = row.get(name)
    try:
        if isinstance(value, bool) or value is None or math.isnan(found := float(value)):
            raise ValueError
        return found
    except (TypeError, ValueError):
        raise ValueError(f"field '{name}': must be a number, not {value!r:.60}") from None


def truth(value: Any) -> bool | None:
    """True or false from what files write for it, else None."""
    if isinstance(value, str):
        words = {True: ("true", "yes", "1", "1.0"), False: ("false", "no", "0", "0.0")}
        value = next((meant for meant, those in words.items() if value.lower() in those), None)
    return bool(value) if value in (True, False) and value is not None and not isinstance(value, str) else None


_GOOD = frozenset(
    "good up thumbsup like liked accept accepted approve approved positive pos correct right chosen preferred desirable"
    " desired helpful upvote upvoted pass passed y t +1 + 👍".split()
)
_BAD = frozenset(
    "bad down thumbsdown dislike disliked reject rejected disapprove disapproved negative neg incorrect wrong"
    " undesirable undesired unhelpful downvote downvoted fail failed n f -1 -1.0 - 👎".split()
)


def wanted(value: Any) -> bool | None:
    """Whether a label says that people wanted an answer, in the words that files write for it. Else None."""
    if isinstance(value, str):
        word = re.sub(r"[\s_]|(?<=.)-", "", value.strip().lower())
        return word in _GOOD if word in _GOOD | _BAD else truth(word)
    return False if not isinstance(value, bool) and value == -1 else truth(value)


def items(row: Row, name: str) -> list[Row]:
    """The objects of a list. Columns of equal length, as some tools save them, are such a list too."""
    value = row.get(name)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if len(lengths) == 1:
            value = [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"field '{name}': must be a list of objects")
    return value


def by_score(scores: Sequence[float]) -> list[list[int]]:
    """The ranking of answers by their scores, the highest first. Equal scores are ties."""
    tiers = sorted(set(scores), reverse=True)
    return [[k for k, score in enumerate(scores) if score == tier] for tier in tiers]


def comparison(prompt: Any, completions: list[Any], ranking: list[list[int]], more: Row, **fields: Any) -> Row:
    """A row of a comparison. `more` are the fields that the shape does not use, and `fields` those of the record."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {"prompt": prompt, **more, "completions": completions, "ranking": ranking, **given}


def better_of_two(better: int | None) -> list[list[int]]:
    """The ranking of two answers: the better one is 0 or 1, or None for a tie."""
    return [[0, 1]] if better is None else [[better], [1 - better]]
