"""Read and write files of records: JSON Lines (gzip by name) and Parquet.

A path may also be the directory of a snapshot. The reader checks its hash before the first row.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from heedful import files
from heedful.config import UserError, explain, install, refused
from heedful.data.public_shapes import to_native, to_public
from heedful.data.records import Record

__all__ = ["data_file", "fingerprint", "read", "rejected_path", "sha256", "to_public", "write"]

MANIFEST, SNAPSHOT_ROWS = "manifest.json", "records.jsonl"
ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
REJECTED = {"line", "reason", "row"}  # the fields of a rejected row
R = TypeVar("R", bound=Record)
Row = dict[str, Any]
log = logging.getLogger(__name__)


def read(path: str | Path, record_type: type[R], *, skip_bad: bool = False) -> list[R]:
    """All records of a file or snapshot. Converts rows of a known public shape (docs/data-formats.md).

    The first malformed row raises UserError with file, line, field and remedy. With `skip_bad` the function returns the
    good rows. It writes the others with line and reason to `rejected_path(path)`. `read` can read that file too.
    """
    file = data_file(path)
    good: list[R] = []
    bad: list[Row] = []
    for line, row in rows(file):
        record, reason = _parse(row, record_type)
        if record is not None:
            good.append(record)
        elif skip_bad:
            bad.append({"line": line, "reason": reason, "row": _shown(row)})
        else:
            raise UserError(f"{file}:{line}: {reason}")
    if not good and not bad:
        raise UserError(f"{file}: no rows. Give a file with one JSON object a line.")
    if bad:
        _reject(bad, rejected_path(file))
        log.warning("%s: left out %d of %d rows, see %s", file, len(bad), len(bad) + len(good), rejected_path(file))
    if not good:
        raise UserError(f"{file}: none of its {len(bad)} rows fits. The first one: {bad[0]['reason']}")
    return good


def write(path: str | Path, records: Iterable[Record | Row]) -> None:
    """Write records as .jsonl, .jsonl.gz or .parquet, whole or not at all. The same records give the same bytes."""
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
    else:
        raise UserError(f"{path}: cannot write this kind of file. Name it .jsonl, .jsonl.gz or .parquet.")


def check_fits(path: Path, records: Iterable[Record]) -> None:
    """Raise UserError if a file of this name cannot hold these records. Call it before the work, not after it."""
    if path.name.endswith(".parquet"):
        _parquet(path, [record.row() for record in records])


def data_file(path: str | Path) -> Path:
    """The file with the rows: the path itself, or the rows of the snapshot there, after a check of their hash."""
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / MANIFEST).is_file() or not (path / SNAPSHOT_ROWS).is_file():
        raise UserError(f"{path}: a directory, and not a snapshot. Give a .jsonl, .jsonl.gz or .parquet file.")
    frozen = read_manifest(path)
    if sha256(path / SNAPSHOT_ROWS) != frozen["sha256"]:
        raise UserError(f"{path / SNAPSHOT_ROWS}: changed since it was frozen. Restore it or freeze a new snapshot.")
    return path / SNAPSHOT_ROWS


def read_manifest(directory: Path) -> Row:
    """The manifest of a snapshot."""
    path = directory / MANIFEST
    with _told(path):
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            raise UserError(f"{path}: not JSON. Restore it or freeze a new snapshot.") from None
    if not isinstance(manifest, dict) or not {"records", "rows", "sha256", "filters"} <= manifest.keys():
        raise UserError(f"{path}: not the manifest of a snapshot. Give a data file or the directory of a snapshot.")
    return manifest


def write_manifest(directory: Path, manifest: Row) -> None:
    """Write the manifest of a snapshot as indented JSON."""
    with _replacing(directory / MANIFEST) as file:
        file.write(json.dumps(manifest, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")


def rejected_path(path: str | Path) -> Path:
    """The file for the rows that `read(path, ..., skip_bad=True)` leaves out."""
    file = data_file(path)
    return file.with_name(f"{file.name}.rejected.jsonl")


def sha256(path: str | Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with _told(Path(path)), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: str | Path) -> dict[str, str | int]:
    """What the manifest of a run stores of a data file or snapshot: `path`, `sha256` of its bytes, number of `rows`."""
    file = data_file(path)
    if file.name.endswith(".parquet"):
        with _parquet_file(file) as opened:
            rows = int(opened.metadata.num_rows)
    else:
        rows = sum(1 for _ in _lines(file))
    return {"path": str(path), "sha256": sha256(file), "rows": rows}


# --- reading -----------------------------------------------------------------------------------------------


class _Bad:
    """A row that is not a JSON object, with the reason."""

    def __init__(self, raw: bytes, reason: str):
        self.raw, self.reason = raw, reason


def _parse(row: Row | _Bad, record_type: type[R]) -> tuple[R | None, str]:
    if isinstance(row, _Bad):
        return None, row.reason
    try:
        native = to_native(row, record_type)
    except ValueError as error:
        return None, str(error)
    try:
        return record_type.model_validate(native), ""
    except ValidationError as error:
        return None, explain(error, record_type, "field ")


def _reject(bad: list[Row], path: Path) -> None:
    """Write the rejected rows. An earlier file of that name stays, since a person may have repaired rows in it."""
    content = b"".join(_line(path, number, row) for number, row in enumerate(bad, 1))
    with _told(path):
        if path.exists() and path.read_bytes() != content:
            raise UserError(f"{path}: already exists. Import the rows that you repaired in it, then move it away.")
    write(path, bad)


def _shown(row: Row | _Bad) -> Any:
    return row.raw.decode("utf-8", errors="backslashreplace") if isinstance(row, _Bad) else row


def rows(path: Path) -> Iterator[tuple[int, Row | _Bad]]:
    """(line number from 1, row) for every row. Skips empty lines."""
    if path.name.endswith(".parquet"):
        with _parquet_file(path) as file:
            found = file.read().to_pylist()
        for line, row in enumerate(found, 1):
            yield line, _from_columns(row)
    else:
        for line, raw in _lines(path):
            yield line, _json_object(raw)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _told(path), gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
        for line, raw in enumerate(file, 1):
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of Windows editors
            raw = raw.rstrip(b"\r\n")
            if raw.strip():
                yield line, raw


def _json_object(raw: bytes) -> Row | _Bad:
    if b"\0" in raw:
        return _Bad(raw, "holds NUL bytes. The file is damaged, or not UTF-8 text.")
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_float)
        if b"\\ud" in raw.lower():
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        return _Bad(raw, f"not UTF-8 (byte {error.start} of the line). Convert the file to UTF-8.")
    except UnicodeEncodeError:
        return _Bad(raw, "holds half of a surrogate pair (\\ud800-\\udfff). Repair the character or delete the row.")
    except OverflowError:
        return _from_columns(json.loads(raw), raw)  # this names the field
    except RecursionError:
        return _Bad(raw, "nested too deeply. A row is one flat JSON object.")
    except ValueError as error:
        if raw.lstrip().startswith(b"["):
            return _Bad(raw, _ARRAY)
        where = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return _Bad(raw, f"not JSON ({where}). Write one JSON object a line.")
    if isinstance(row, list):
        return _Bad(raw, _ARRAY)
    if isinstance(row, dict) and row.keys() == REJECTED:
        inner = row["row"]  # a row that was not a JSON object is stored as text
        if not isinstance(inner, dict):
            return _json_object((inner if isinstance(inner, str) else json.dumps(inner)).encode("utf-8"))
        return inner
    return row if isinstance(row, dict) else _Bad(raw, 'not a JSON object. Write rows like {"prompt": "..."}')


_ARRAY = "a JSON array. Write one object a line instead (jq -c '.[]' FILE.json > FILE.jsonl)."


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value, use null")


_BEYOND = "a number beyond what 64-bit floats hold. Write a smaller one, or leave it out."


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError(_BEYOND)
    return value


def _from_columns(row: Row, raw: bytes | None = None) -> Row | _Bad:
    """A Parquet row with the values that JSON has."""
    try:
        plain: Row = _from_column(row)
    except ValueError as error:
        return _Bad(raw or json.dumps(row, ensure_ascii=False, default=str).encode("utf-8"), str(error))
    return plain


def _from_column(value: Any, field: str = "") -> Any:
    """Leave out nulls (pandas writes NaN), decode bytes, and turn dates and the like into strings."""
    if isinstance(value, dict):
        parts = {key: _from_column(inner, f"{field}.{key}" if field else key) for key, inner in value.items()}
        return {key: inner for key, inner in parts.items() if inner is not None}
    if isinstance(value, list):
        return [_from_column(inner, field) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(
                f"field '{field}': bytes that are not UTF-8 text. Write text there, or leave the column out."
            ) from None
    if isinstance(value, float) and not math.isfinite(value):
        if math.isinf(value):
            raise ValueError(f"field '{field}': {_BEYOND}")
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """The opened file. An error of Parquet, now or during reading, becomes one line."""
    parquet = _pyarrow_parquet(path)
    from pyarrow import ArrowException

    with _told(path):
        try:
            with parquet.ParquetFile(path) as file:
                yield file
        except (ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # an error of the system, not of Parquet
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: not a Parquet file, or a damaged one ({reason}). Check its name or download it again."
            ) from None


def _pyarrow_parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow. Run {install('train')}, or use .jsonl.") from None
    return parquet


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of gzip into one line."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path.") from None
    except (EOFError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged. Download or write it again.") from None
    except gzip.BadGzipFile:
        raise UserError(f"{path}: named .gz, but not a gzip file. Rename it or compress it.") from None
    except OSError as error:
        raise UserError(refused(error, path)) from None


# --- writing -----------------------------------------------------------------------------------------------


def _line(path: Path, number: int, row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (ValueError, TypeError) as error:  # NaN, half surrogates, objects without a form in JSON
        raise UserError(f"{path}: row {number} cannot be written as JSON ({error}). Nothing was written.") from None


def _parquet(path: Path, rows: list[Row]) -> bytes:
    parquet = _pyarrow_parquet(path)
    import pyarrow

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


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream to write to. Its content replaces `path` at the end."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(path) as file:
            yield file
