"""From rows of any shape to records of one kind."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heedful.config import explain
from heedful.data.reading.sources import SPLITS
from heedful.data.reading.values import Bad, wrong_text
from heedful.data.records import Choice, Comparison, Completions, Demonstration, Prompt, Record, Text
from heedful.data.shapes import table
from heedful.data.shapes.parts import NoJudgement, Shape
from heedful.files import Row

KINDS: dict[str, type[Record]] = {
    "texts": Text,
    "prompts": Prompt,
    "demonstrations": Demonstration,
    "completions": Completions,
    "comparisons": Comparison,
    "choices": Choice,
}
"""The kinds of records, by the names that commands use."""
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}
_ANSWER_FIELDS = {name for cls in (Demonstration, Completions, Comparison, Choice) for name in cls.model_fields} - set(
    Prompt.model_fields
)
_SHARED_NAMES = {"order", "ratings", "models", "scores", "finish", "token_ids"}
"""Fields about the answers that data sets of others have too, with another meaning."""
_SYSTEMS = ("system_prompt", "system_message")


@dataclass(frozen=True)
class ConvertedRow:
    """What became of a row: records, or a reason why there are none. `refused`: the row is malformed."""

    file: Path
    line: int
    row: Any
    shape: Shape | None
    records: list[Any]
    reason: str = ""
    refused: bool = False


Placed = tuple[Path, int, Row | Bad]


def convert(rows: Iterable[Placed], record_type: type[Record], mapped: Shape | None = None) -> Iterator[ConvertedRow]:
    """What becomes of each row. The rows of a group come together, where its first row was."""
    groups: dict[Hashable, list[Placed]] = {}
    waiting: list[tuple[Shape, Hashable] | ConvertedRow] = []
    for file, line, row in rows:
        if isinstance(row, Bad):
            outcome = ConvertedRow(file, line, row.raw, None, [], row.reason, refused=True)
        else:
            shape = mapped or table.find(row)
            if shape is not None and shape.gather is not None and shape.group is not None:
                key = (shape.name, shape.group(row))
                if key not in groups:
                    waiting.append((shape, key))
                groups.setdefault(key, []).append((file, line, row))
                continue
            outcome = _outcome((file, line, row), shape, record_type)
        if waiting:
            waiting.append(outcome)
        else:
            yield outcome
    for item in waiting:
        if isinstance(item, ConvertedRow):
            yield item
        else:
            yield from _gathered(item[0], groups[item[1]], record_type)


def _outcome(placed: Placed, shape: Shape | None, record_type: type[Record]) -> ConvertedRow:
    file, line, row = placed
    try:
        return ConvertedRow(file, line, row, shape, _records([row], shape, record_type))
    except NoJudgement as error:
        return ConvertedRow(file, line, row, shape, [], str(error))
    except ValueError as error:
        return ConvertedRow(file, line, row, shape, [], _told(error, record_type), refused=True)


def _gathered(shape: Shape, rows: list[Placed], record_type: type[Record]) -> Iterator[ConvertedRow]:
    """The outcome of a group. If it is refused, each of its rows is."""
    try:
        made = _records([row for _, _, row in rows], shape, record_type)
    except ValueError as error:
        refused = not isinstance(error, NoJudgement)
        for file, line, row in rows:
            yield ConvertedRow(file, line, row, shape, [], _told(error, record_type), refused=refused)
    else:
        for n, (file, line, row) in enumerate(rows):
            yield ConvertedRow(file, line, row, shape, made if n == 0 else [])


def _told(error: ValueError, record_type: type[Record]) -> str:
    return explain(error, record_type, "field ") if isinstance(error, ValidationError) else str(error)


def _records(rows: list[Any], shape: Shape | None, record_type: type[Record]) -> list[Record]:
    foreign = rows[0] if shape is not None and shape.name not in ("heedful", "mapped") else {}
    made = [_record(native, record_type, foreign) for native in _native(rows, shape, record_type)]
    # JSON inside of a text can hold half of a character, which the reader of the file has not seen
    if any(isinstance(value, str) and "\\ud" in value.lower() for row in rows for value in row.values()):
        for record in made:
            if found := wrong_text(record.row()):
                raise ValueError(found)
    return made


def _record(native: Row, record_type: type[Record], row: Row) -> Record:
    """The record of a converted row. Fields of another tool that only share a name with ours become NAME_as_given."""
    try:
        return record_type.model_validate(native)
    except ValidationError as error:
        wrong = {str(part["loc"][0]) for part in error.errors() if part["loc"]}
        if not wrong or not all(name in _SHARED_NAMES and native.get(name) == row.get(name) for name in wrong):
            raise
        renamed = {f"{name}_as_given" if name in wrong else name: value for name, value in native.items()}
        return record_type.model_validate(renamed)


def _native(rows: list[Any], shape: Shape | None, record_type: type[Record]) -> list[Row]:
    """Rows with the fields of `record_type`. Rows of an unknown shape stay as they are."""
    if shape is None or (not issubclass(record_type, Prompt) and shape.kind != "texts" and shape.name != "mapped"):
        return rows
    kind = kind_name(record_type)
    given = rows
    if shape.name != "mapped":
        rows = [_with_system(row) for row in rows]
    if kind not in ("", "prompts") and shape.unfit is not None and (reason := shape.unfit(rows[0])):
        raise ValueError(reason)
    with shape.reading():
        if kind in shape.others:
            found = shape.others[kind](rows)
        else:
            found = shape.gather(rows) if shape.gather is not None else shape.convert(rows[0])
        if rows[0].keys() != given[0].keys():
            found = [_as_called(given[0], native) for native in found]
        return [_split(_as(kind, native)) for native in found]


def _with_system(row: Row) -> Row:
    """A row with `system`, also where it is called system_prompt or system_message."""
    other = next((name for name in _SYSTEMS if isinstance(row.get(name), str)), None)
    if other is None or "system" in row:
        return row
    return {"system" if name == other else name: value for name, value in row.items()}


def _as_called(row: Row, native: Row) -> Row:
    """The converted row with the file's own name of `system`, if the shape has not used it."""
    other = next(name for name in _SYSTEMS if name in row)
    return {other if name == "system" else name: value for name, value in native.items()}


def kind_name(record_type: type[Record]) -> str:
    """The kind of a record, a key of KINDS. Empty for others."""
    return next((_KIND_OF[cls] for cls in record_type.__mro__ if cls in _KIND_OF and cls is not Prompt), "") or (
        "prompts" if record_type is Prompt else ""
    )


def _as(kind: str, row: Row) -> Row:
    """A richer row as a simpler one, and two compared answers as a choice or the other way."""
    if kind == "prompts" and {"completion", "completions", "preferred"} & row.keys():
        return {key: value for key, value in row.items() if key not in _ANSWER_FIELDS}
    if kind in ("comparisons", "completions") and {"a", "b", "preferred"} <= row.keys() and "completions" not in row:
        return _as_comparison(row)
    if kind == "choices" and len(row.get("completions") or []) == 2 and "ranking" in row and "preferred" not in row:
        return _as_choice(row)
    return row


def _as_comparison(row: Row) -> Row:
    sides = [{"text": side} if isinstance(side, str) else side for side in (row["a"], row["b"])]
    if not all(isinstance(side, dict) for side in sides):
        return row
    tiers = {"a": [[0], [1]], "b": [[1], [0]], "tie": [[0, 1]]}
    more = {key: value for key, value in row.items() if key not in ("a", "b", "preferred")}
    made = {**more, "completions": [side.get("text") for side in sides], "ranking": tiers.get(row["preferred"], [])}
    models = [side.get("model") for side in sides]
    return made | ({"models": models} if any(models) else {})


def _as_choice(row: Row) -> Row:
    used = ("completions", "ranking", "models", "order", "ratings", "finish", "token_ids", "scores")
    models = row.get("models") or [None, None]
    sides = [
        {"text": answer, **({"model": model} if model is not None else {})}
        for answer, model in zip(row["completions"], models, strict=True)
    ]
    tiers = row["ranking"]
    preferred = "tie" if len(tiers) == 1 else "a" if tiers[0] == [0] else "b"
    more = {key: value for key, value in row.items() if key not in used}
    return {**more, "a": sides[0], "b": sides[1], "preferred": preferred}


def _split(row: Row) -> Row:
    """The row with the name of its split as heedful writes it: "validation" is valid, "test_sft" is test."""
    first = re.match("[a-z]+", str(row.get("split")).lower())
    known = SPLITS.get(first[0]) if first else None
    return row if known is None else row | {"split": known}
