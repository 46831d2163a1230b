"""What a file holds, from its first rows: the shape of the rows and the kind of record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from heedful.config import UserError
from heedful.data import conversion
from heedful.data.reading import sources
from heedful.data.reading.streams import USUAL, FileLimits
from heedful.data.reading.values import Bad
from heedful.data.records import Choice, Comparison, Demonstration, Record, Text
from heedful.data.shapes import mapping, table
from heedful.data.shapes.parts import Shape
from heedful.files import Row

KINDS = conversion.KINDS
_LOOKED_AT = 50  # rows
# A prompt with such a field was answered or judged. Own rows of heedful have other names.
_JUDGING = re.compile(
    r"(answer|response|completion|output|reply|replies|choice|chosen|reject|prefer|rank|winner|better|best|selected|vote|"
    r"rating|score|label|annotat|judg|verdict|feedback|^(generations?|candidates|continuations?)$)",
    re.IGNORECASE,
)
_REJECTING = re.compile(
    r"(chosen|reject|prefer|winner|rating|score|reward|thumb|feedback|vote|verdict|label|judg|accepted|approv|liked|"
    r"grade|is_(safe|good|bad|correct|wrong|helpful|harmful))",
    re.IGNORECASE,
)
_RANKING = re.compile(
    r"(chosen|reject|prefer|rank|winner|best|better|rating|vote|label|choice|selected|judg|annotat|verdict)",
    re.IGNORECASE,
)
# A text with such a field is a prompt.
_ANSWERING = re.compile(r"(completion|response|answer|chosen|reject|prefer)", re.IGNORECASE)
_PATTERNS = {"prompts": _JUDGING, "demonstrations": _REJECTING, "completions": _RANKING, "texts": _ANSWERING}
_MEANT = {"prompt_as_given", "prompt_id", "preferred", "ranking", "ratings", "labeler", "group"}
# What heedful itself notes in a snapshot and in the files of a round.
_NOTED = {"exchange", "instructions", "item", "judged", "judged_as", "judgement", "language", "role", "seconds"}
_ROLES = ("labeler", "held_out")  # of the person who judged
_SETTINGS = {
    "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_new_tokens", "stop", "response_format",
}  # fmt: skip
_MOST_NAMED = 12


class UnknownShape(UserError):
    """The rows of a file have no shape that heedful knows."""


def kind_of(
    path: str | Path, given: mapping.FieldMap | None = None, limits: FileLimits = USUAL, *, lenient: bool = False
) -> str:
    """The key in KINDS for the rows of a file, folder or data set, by the shape of its first rows.

    UserError if the shape is unknown. Also if a field that is not known seems to judge answers, unless `lenient`: then
    the reader uses all fields itself.
    """
    if given is not None:
        return given.kind
    rows, shapes = _first(row for _, _, row in sources.find(path).rows(limits))
    if not rows:
        return "prompts"  # reading the file will tell what is wrong with it
    if not shapes:
        raise UnknownShape(f"{path}: {unknown(rows)}")
    kind = next((kind for kind in shapes if kind != "prompts"), "prompts")
    shape = shapes[kind]
    if not lenient and (lost := judging(rows, shape, kind)):
        raise UserError(
            f"{path}: rows of {kind} with fields that heedful does not know: {', '.join(lost)}."
            f" Name the fields with --map, such as --map completions=FIELD, or give --as {kind} to leave them unused."
        )
    return kind


def _first(found: Iterable[Row | Bad]) -> tuple[list[Row], dict[str, Shape]]:
    """(the first rows, the kinds of the rows with a shape of each). Where all are prompts, all rows are looked at.

    So an answer further down is not taken for a prompt. Rows with new fields count as first rows.
    """
    rows: list[Row] = []
    shapes: dict[str, Shape] = {}
    names: set[str] = set()
    for row in found:
        if isinstance(row, Bad):
            continue
        if len(rows) < _LOOKED_AT or row.keys() - names:
            rows.append(row)
            names |= row.keys()
        elif shapes.keys() - {"prompts"}:
            break
        if (shape := table.find(row)) is not None:
            shapes.setdefault(shape.kind_of(row), shape)
    return rows, shapes


def lost(records: Iterable[Record]) -> list[str]:
    """The fields that heedful does not use, and the number of further ones.

    Those of prompts are for rewards, but for settings of sampling.
    """
    names: dict[str, None] = {}
    for record in records:
        more = record.model_extra or {}
        if not isinstance(record, Demonstration | Comparison | Choice | Text):
            names |= {name: None for name in more if name in _SETTINGS}
            continue
        noted = more.keys() & {"judgement", "exchange"} or more.get("role") == "held_out"
        own = _MEANT | _NOTED if noted else _MEANT
        if isinstance(record, Comparison | Choice) and more.get("role") in _ROLES:
            own = own | {"role"}  # an evaluation keeps held-out labelers apart
        names |= {name: None for name, value in more.items() if value not in (None, "", [], {}) and name not in own}
    found = [*names]
    left = len(found) - _MOST_NAMED
    return found if left <= 0 else [*found[:_MOST_NAMED], f"and {left} more"]


def lost_answer(read: conversion.ConvertedRow) -> bool:
    """Whether a row that was read as a prompt had an answer. One that is kept as a field counts as kept.

    Reward functions get the fields of a prompt, such as `answer`.
    """
    shape = read.shape
    if shape is None or not read.records or shape.kind_of(read.row) in ("prompts", "texts"):
        return False
    if shape.gather is not None:  # the answers of several rows
        return True
    kept = {str(value) for value in (read.records[0].model_extra or {}).values()}
    try:
        with shape.reading():
            own = shape.convert(read.row)
    except ValueError:
        return False
    return any(answer not in kept for row in own for answer in _answers(row))


def _answers(row: Row) -> Iterator[str]:
    yield from [row["completion"]] if "completion" in row else row.get("completions") or ()
    for side in (row.get("a"), row.get("b")):
        if side is not None:
            yield side["text"] if isinstance(side, dict) else side


def unknown(rows: Iterable[Row]) -> str:
    """The reason why rows of an unknown shape cannot be read, with their fields."""
    shown = ", ".join(dict.fromkeys(name for row in rows for name in row)) or "none"
    return (
        f"unknown kind of rows (fields: {shown}). Name the fields, as in --map prompt=FIELD --map completion=FIELD."
        " docs/data-formats.md lists the shapes that heedful knows."
    )


def judging(rows: Iterable[Row], shape: Shape, kind: str) -> list[str]:
    """The unused fields of prompts, demonstrations, completions or texts that seem to hold answers or judgements."""
    pattern = _PATTERNS.get(kind)
    if pattern is None or shape.unfit is not None:  # the shape looks at the judgement itself
        return []
    known = {*KINDS[kind].model_fields, *_MEANT}
    names: dict[str, None] = {}
    for row in rows:
        if table.find(row) is not shape:
            continue
        try:
            with shape.reading():
                made = shape.convert(row)
        except ValueError:
            continue
        names |= {name: None for native in made for name, value in native.items() if value is not None}
    return [name for name in names if name not in known and pattern.search(name)]
