"""What heedful makes of a file, before anything is written: for `heedful import --explain` and for pages.

explanation = explain("answers.csv", {"prompt": "question", "chosen": "best_answer", "rejected": "other"})
explanation.preview     # the first rows as they will be read
explanation.problem     # why the file cannot be read at all, or ""
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heedful.config import UserError
from heedful.data import conversion, kinds
from heedful.data.reading import sources
from heedful.data.reading.streams import USUAL, FileLimits
from heedful.data.shapes import mapping
from heedful.data.text import counted, rows_told
from heedful.files import Row

_FIRST, _MOST_REFUSED, _LONGEST = 3, 20, 300


@dataclass(frozen=True)
class Refusal:
    """A row that cannot be read, with the reason."""

    file: str
    line: int
    reason: str


@dataclass
class Explanation:
    """What heedful makes of a file. `row()` gives plain JSON values."""

    source: str
    kind: str = ""
    """The kind of the records, a key of KINDS. Empty if the shape is unknown."""
    shapes: dict[str, int] = field(default_factory=dict)
    """The shapes of the rows, with the number of rows of each."""
    rows: int = 0
    """Rows of the file."""
    records: int = 0
    """Records that come of them."""
    preview: list[Row] = field(default_factory=list)
    """The first records as they will be read."""
    fields: dict[str, str] = field(default_factory=dict)
    """The fields of the rows, each with an example of its value, cut to 300 characters."""
    unused: dict[str, int] = field(default_factory=dict)
    """Fields that stay in the records without a meaning, with the number of records that have them."""
    refused: list[Refusal] = field(default_factory=list)
    """The first 20 rows that cannot be read."""
    refused_rows: int = 0
    """The number of rows that cannot be read."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Reasons why rows hold no judgement, with the number of such rows. They are left out."""
    unknown: bool = False
    """Whether no shape fits, so that the fields have to be named."""
    problem: str = ""
    """Why the file cannot be read as it is, in one line that ends with the remedy. Empty if it can be read."""

    def row(self) -> Row:
        """The explanation as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The explanation for a terminal."""
        shapes = ", ".join(f"{name} ({rows_told(count)})" for name, count in self.shapes.items()) or "unknown"
        told = [f"{self.source}: {rows_told(self.rows)}. Shape: {shapes}."]
        if self.kind:
            told.append(f"read as: {counted(self.records, self.kind)}")
        told += [json.dumps(row, ensure_ascii=False) for row in self.preview]
        told.append(
            "fields not used: " + (_counted(self.unused) or "none")
            if self.kind
            else "fields: " + (", ".join(self.fields) or "none")
        )
        told += [f"left out, not judged: {rows_told(count)}: {reason}" for reason, count in self.unjudged.items()]
        if self.refused_rows:
            told.append(f"cannot be read: {rows_told(self.refused_rows)}. --skip-bad leaves such rows out")
            told += [f"  {bad.file}:{bad.line}: {bad.reason}" for bad in self.refused]
        return told


def explain(
    source: str | Path,
    given: Mapping[str, str | list[str]] | Iterable[str] = (),
    kind: str | None = None,
    *,
    first: int = _FIRST,
    limits: FileLimits = USUAL,
) -> Explanation:
    """Read a file, folder, pattern or data set without storing anything.

    `given` maps a target to a field, or to a list of fields (`mapping.TARGETS` has all targets with their meaning):
    {"prompt": "question", "completions": ["answer1", "answer2"], "scores": ["s1", "s2"]}. Or it lists texts
    "TARGET=FIELD". Without it the shape is found by the fields. `kind` is a key of KINDS, and is found by the shape if
    it is None. Raises UserError if the file cannot be opened, is damaged or too large, or if `given` makes no record.
    An unknown shape is no error: `problem` then tells it, and `fields` has the fields to choose from.
    """
    chosen = mapping.parse(given)
    found = sources.find(source)
    told = Explanation(str(source))
    try:
        told.kind = kind or kinds.kind_of(source, chosen, limits)
    except UserError as error:
        told.problem, told.unknown = str(error), isinstance(error, kinds.UnknownShape)
    if told.kind and told.kind not in kinds.KINDS:
        raise UserError(f"--as {told.kind}: no such kind. Choose from {', '.join(kinds.KINDS)}")
    record_type = kinds.KINDS[told.kind or "prompts"]
    rows = found.rows(limits, "text" if told.kind == "texts" else "prompt")
    shapes: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    unjudged: Counter[str] = Counter()
    for outcome in conversion.convert(rows, record_type, mapping.shape(chosen) if chosen else None):
        told.rows += 1
        shapes[outcome.shape.name if outcome.shape else "unknown"] += 1
        if isinstance(outcome.row, dict):
            _note(told.fields, outcome.row)
        if not told.kind:
            continue
        told.records += len(outcome.records)
        told.preview += [record.row() for record in outcome.records[: first - len(told.preview)]]
        unused.update(name for record in outcome.records for name in record.model_extra)
        if outcome.refused:
            told.refused_rows += 1
            if len(told.refused) < _MOST_REFUSED:
                told.refused.append(Refusal(outcome.file.name, outcome.line, outcome.reason))
        elif outcome.reason:
            unjudged[outcome.reason] += 1
    told.shapes, told.unused, told.unjudged = dict(shapes), dict(unused), dict(unjudged)
    if told.kind and not told.records and not told.problem:
        reasons = [bad.reason for bad in told.refused] + [f"{reason}." for reason in unjudged]
        told.problem = f"{source}: " + (reasons[0] if reasons else "no rows. Give a file with at least one.")
    return told


def _note(fields: dict[str, str], row: Row) -> None:
    for name, value in row.items():
        if name not in fields and value is not None:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            fields[name] = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())
