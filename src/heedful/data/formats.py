"""Read and write files of records.

Reading takes every format, folder and data set that `reading.sources` finds, and every shape of rows in
`shapes.table`. Writing makes JSON Lines (gzip by name), Parquet and CSV. The reader checks the hash of a snapshot
before the first row.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from heedful import files
from heedful.config import UserError
from heedful.data import kinds
from heedful.data.conversion import ConvertedRow, convert, kind_name
from heedful.data.reading import sources
from heedful.data.reading.sources import MANIFEST, READABLE, SNAPSHOT_ROWS, read_manifest, sha256
from heedful.data.reading.streams import USUAL, FileLimits, needs_pyarrow, told
from heedful.data.records import Prompt, Record
from heedful.data.shapes import mapping
from heedful.data.text import counted, rows_told
from heedful.files import Row

__all__ = [
    "ENDINGS", "MANIFEST", "READABLE", "SNAPSHOT_ROWS", "check_fits", "fingerprint", "place", "read", "read_manifest",
    "rejected_path", "sha256", "write", "write_manifest",
]  # fmt: skip

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
"""Endings of the files of rows that commands write."""
_TABLES = (".csv", ".tsv")
R = TypeVar("R", bound=Record)
log = logging.getLogger(__name__)


def read(
    path: str | Path,
    record_type: type[R],
    *,
    skip_bad: bool = False,
    given: mapping.FieldMap | None = None,
    limits: FileLimits = USUAL,
    left_out: Counter[str] | None = None,
    remarks: bool = True,
) -> list[R]:
    """All records of a file, folder, pattern, snapshot or hub data set. Converts rows of a known shape.

    `given` names the fields of rows of another shape. The first malformed row raises UserError with file, line, field
    and remedy. With `skip_bad` the function returns the good rows. It writes the others with line and reason to
    `rejected_path(path)`. `read` can read that file too. Rows that nobody judged are counted in one line.
    `left_out` receives the reasons why rows are left out, each with its number. `remarks`: whether to say what rows
    hold that is not used. Switch it off only where the same file is read with remarks, too.
    """
    source, say = sources.find(path), log.warning if remarks else log.debug
    shape = mapping.shape(given) if given is not None else None
    good: list[R] = []
    bad: list[Row] = []
    empty: Counter[str] = Counter()
    count = answered = 0
    field = "text" if record_type.__name__ == "Text" else "prompt"
    for outcome in convert(source.rows(limits, field), record_type, shape):
        count += 1
        good.extend(outcome.records)
        if outcome.refused and not skip_bad:
            raise UserError(f"{outcome.file}:{outcome.line}: {outcome.reason}{_hint(outcome, record_type)}")
        if outcome.refused:
            named = {"file": outcome.file.name} if len(source.files) > 1 else {}
            bad.append({**named, "line": outcome.line, "reason": outcome.reason, "row": outcome.row})
        elif outcome.reason:
            empty[outcome.reason] += 1
        elif record_type is Prompt and kinds.lost_answer(outcome):
            answered += 1
    if not count:
        raise UserError(f"{source.path}: no rows. Give a file with at least one.")
    if bad:
        _reject(bad, rejected_path(path))
        say("%s: left out %s, see %s", source.path, counted(len(bad), "rows", of=count), rejected_path(path))
    for reason, rows in empty.items():
        say("%s: %s no judgement: %s", source.path, counted(rows, "rows", "hold", of=count), reason)
    if answered:
        say("%s: read as prompts. The answers of %s are not used", source.path, counted(answered, "rows", of=count))
    if left_out is not None:
        left_out.update(empty)
        left_out.update(one["reason"] for one in bad)
    if lost := kinds.lost(good):
        kind = kind_name(record_type)
        say("%s: read as %s. Fields that heedful does not use: %s", source.path, kind, ", ".join(lost))
    splits = {record.split for record in good if isinstance(record, Prompt) and record.split}
    if others := sorted(splits - {"train", "valid", "test"}):
        say("%s: heedful knows the splits train, valid and test. Read as train: %s", source.path, ", ".join(others))
    if not good:
        first = f"The first one: {bad[0]['reason']}" if bad else f"{next(iter(empty))}."
        raise UserError(f"{source.path}: no row fits ({rows_told(count)}). {first}")
    return good


def _hint(outcome: ConvertedRow, record_type: type[Record]) -> str:
    """What to do about a row that lacks a field since it has another shape than the command needs."""
    if "': missing. Required: " not in outcome.reason or not isinstance(outcome.row, dict):
        return ""
    if not outcome.row:
        return " The row is empty. Delete it."
    if outcome.shape is None:
        header = " The first line of a table has the names of the fields." if outcome.file.suffix in _TABLES else ""
        return f" The row has {', '.join(outcome.row)}.{header} Name its fields with heedful import --map."
    kind = outcome.shape.kind_of(outcome.row)
    needed = kind_name(record_type)
    return f" Such rows are {kind}, and {needed} are needed here." if needed and kind != needed else ""


def place(path: str | Path, record_type: type[Record], index: int) -> str:
    """FILE:LINE of the record with this index among those that `read` gives."""
    for outcome in convert(sources.find(path).rows(USUAL, "prompt"), record_type, None):
        if index < len(outcome.records):
            return f"{outcome.file}:{outcome.line}"
        index -= len(outcome.records)
    raise IndexError(index)


def write(path: str | Path, records: Iterable[Record | Row]) -> None:
    """Write records as .jsonl, .jsonl.gz, .parquet or .csv, whole or not at all. Equal records give equal bytes."""
    path = Path(path)
    rows = (record.row() if isinstance(record, Record) else record for record in records)
    if path.name.endswith(".parquet"):
        content = _parquet(path, list(rows))
        with _replacing(path) as file:
            file.write(content)
    elif path.name.endswith(".jsonl.gz"):
        # no name and no time in the header, so that equal records give equal bytes
        with _replacing(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            packed.writelines(_line(path, number, row) for number, row in enumerate(rows, 1))
    elif path.name.endswith(".jsonl"):
        with _replacing(path) as file:
            file.writelines(_line(path, number, row) for number, row in enumerate(rows, 1))
    elif path.name.endswith(".csv"):
        with _replacing(path) as file:
            file.write(_table(path, list(rows)))
    else:
        raise UserError(f"{path}: cannot write this kind of file. Name it .jsonl, .jsonl.gz, .parquet or .csv.")


def check_fits(path: Path, records: Iterable[Record]) -> None:
    """Raise UserError if a file of this name cannot hold these records. Call it before the work, not after it."""
    if path.name.endswith(".parquet"):
        _parquet(path, [record.row() for record in records])


def write_manifest(directory: Path, manifest: Row) -> None:
    """Write the manifest of a snapshot as indented JSON."""
    with _replacing(directory / MANIFEST) as file:
        file.write(json.dumps(manifest, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")


def rejected_path(path: str | Path) -> Path:
    """The file for the rows that `read(path, ..., skip_bad=True)` leaves out."""
    place = sources.find(path).path
    return place.with_name(f"{place.name}.rejected.jsonl")


def fingerprint(path: str | Path) -> dict[str, str | int]:
    """What the manifest of a run stores of its data: `path`, `sha256` of the bytes, number of `rows`."""
    source = sources.find(path)
    return {"path": str(path), "sha256": source.sha256(), "rows": source.count()}


def _reject(bad: list[Row], path: Path) -> None:
    """Write the rejected rows. An earlier file of that name stays, since a person may have repaired rows in it."""
    content = b"".join(_line(path, number, row) for number, row in enumerate(bad, 1))
    with told(path):
        if path.exists() and path.read_bytes() != content:
            raise UserError(f"{path}: already exists. Import the rows that you repaired in it, then move it away.")
    write(path, bad)


def _line(path: Path, number: int, row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (ValueError, TypeError) as error:  # NaN, half surrogates, objects without a form in JSON
        raise UserError(f"{path}: row {number} cannot be written as JSON ({error}). Nothing was written.") from None


def _parquet(path: Path, rows: list[Row]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise needs_pyarrow(path) from None

    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = pyarrow.BufferOutputStream()
    try:
        table = pyarrow.table({name: pyarrow.array([row.get(name) for row in rows]) for name in names})
        parquet.write_table(table, buffer)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: Parquet wants one type for each field and integers of 64 bits ({reason}). Write .jsonl instead."
        ) from None
    return bytes(buffer.getvalue())


def _table(path: Path, rows: list[Row]) -> bytes:
    """The rows as CSV. Lists, objects and numbers are written as JSON, and what a row lacks is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for number, row in enumerate(rows, 1):
        _line(path, number, row)  # refuses what JSON cannot hold
        cells = [row.get(name) for name in names]
        writer.writerow(
            "" if cell is None else cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
            for cell in cells
        )
    return text.getvalue().encode("utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream to write to. Its content replaces `path` at the end."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(path) as file:
            yield file
