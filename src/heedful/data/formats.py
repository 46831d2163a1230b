"""Files of records: JSON Lines (gzip by name) and Parquet, in and out. The door between disk and `records`.

A path may also be the directory of a frozen snapshot; its hash is checked before a row is read.
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
from heedful.config import UserError, refused
from heedful.data.public_shapes import to_native, to_public
from heedful.data.records import Record, problem

__all__ = ["data_file", "fingerprint", "read", "rejected_path", "sha256", "to_public", "write"]

MANIFEST, SNAPSHOT_ROWS = "manifest.json", "records.jsonl"
REJECTED = {"line", "reason", "row"}  # the fields of a row that was put aside
R = TypeVar("R", bound=Record)
Row = dict[str, Any]
log = logging.getLogger(__name__)


def read(path: str | Path, record_type: type[R], *, skip_bad: bool = False) -> list[R]:
    """All records of a file or snapshot; rows of a known public shape are converted (docs/data-formats.md).

    The first malformed row raises UserError with file, line, field and remedy. With `skip_bad` the good rows are
    returned, and the others go with their line and reason to `rejected_path(path)`, which is read like any other file.
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
        raise UserError(f"{file}: no rows; give a file with one JSON object a line")
    if bad:
        _put_aside(bad, rejected_path(file))
        log.warning("%s: left out %d of %d rows, see %s", file, len(bad), len(bad) + len(good), rejected_path(file))
    if not good:
        raise UserError(f"{file}: none of its {len(bad)} rows fits, the first because {bad[0]['reason']}")
    return good


def write(path: str | Path, records: Iterable[Record | Row]) -> None:
    """Write records as .jsonl, .jsonl.gz or .parquet: whole or not at all, and the same bytes for the same records."""
    path = Path(path)
    rows = (record.row() if isinstance(record, Record) else record for record in records)
    if path.name.endswith(".parquet"):
        content = _parquet(path, list(rows))
        with _replacing(path) as file:
            file.write(content)
    elif path.name.endswith(".jsonl.gz"):
        # neither name nor time in the header, so that equal records make equal bytes
        with _replacing(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            packed.writelines(_line(path, number, row) for number, row in enumerate(rows, 1))
    elif path.name.endswith(".jsonl"):
        with _replacing(path) as file:
            file.writelines(_line(path, number, row) for number, row in enumerate(rows, 1))
    else:
        raise UserError(f"{path}: cannot write this kind of file; name it .jsonl, .jsonl.gz or .parquet")


def check_fits(path: Path, records: Iterable[Record]) -> None:
    """Raise UserError where a file of this name could not hold these records: before work that ends in writing them."""
    if path.name.endswith(".parquet"):
        _parquet(path, [record.row() for record in records])


def data_file(path: str | Path) -> Path:
    """The file that holds the rows: the path itself, or the rows of the snapshot it names, their hash checked."""
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / MANIFEST).is_file() or not (path / SNAPSHOT_ROWS).is_file():
        raise UserError(f"{path}: a directory, and not a snapshot; give a .jsonl, .jsonl.gz or .parquet file")
    frozen = read_manifest(path)
    if sha256(path / SNAPSHOT_ROWS) != frozen["sha256"]:
        raise UserError(f"{path / SNAPSHOT_ROWS}: changed since it was frozen; restore it or freeze a new snapshot")
    return path / SNAPSHOT_ROWS


def read_manifest(directory: Path) -> Row:
    """The manifest of a snapshot."""
    path = directory / MANIFEST
    with _told(path):
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            raise UserError(f"{path}: not JSON; restore it or freeze a new snapshot") from None
    if not isinstance(manifest, dict) or not {"records", "rows", "sha256", "filters"} <= manifest.keys():
        raise UserError(f"{path}: not the manifest of a snapshot; give a data file or a snapshot's directory")
    return manifest


def write_manifest(directory: Path, manifest: Row) -> None:
    """The manifest beside the rows of a snapshot, as indented JSON."""
    with _replacing(directory / MANIFEST) as file:
        file.write(json.dumps(manifest, ensure_ascii=False, indent=2).encode("utf-8") + b"\n")


def rejected_path(path: str | Path) -> Path:
    """Where `read(path, ..., skip_bad=True)` puts the rows it left out."""
    file = data_file(path)
    return file.with_name(f"{file.name}.rejected.jsonl")


def sha256(path: str | Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with _told(Path(path)), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: str | Path) -> dict[str, str | int]:
    """What a run's manifest remembers of a data file or snapshot: `path`, `sha256` of its bytes, number of `rows`."""
    file = data_file(path)
    if file.name.endswith(".parquet"):
        with _parquet_file(file) as opened:
            rows = int(opened.metadata.num_rows)
    else:
        rows = sum(1 for _ in _lines(file))
    return {"path": str(path), "sha256": sha256(file), "rows": rows}


# --- reading -----------------------------------------------------------------------------------------------


class _Bad:
    """A row that could not even be parsed."""

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
        return None, problem(error, record_type)


def _put_aside(bad: list[Row], path: Path) -> None:
    """Somebody may have mended rows in an earlier file of that name."""
    content = b"".join(_line(path, number, row) for number, row in enumerate(bad, 1))
    with _told(path):
        if path.exists() and path.read_bytes() != content:
            raise UserError(f"{path}: already exists; import the rows that were mended in it, then move it away")
    write(path, bad)


def _shown(row: Row | _Bad) -> Any:
    return row.raw.decode("utf-8", errors="backslashreplace") if isinstance(row, _Bad) else row


def rows(path: Path) -> Iterator[tuple[int, Row | _Bad]]:
    """(line number from 1, row) for every row; empty lines are passed over."""
    if path.name.endswith(".parquet"):
        with _parquet_file(path) as file:
            found = file.read().to_pylist()
        for line, row in enumerate(found, 1):
            yield line, _from_columns(row)
    else:
        for line, raw in _lines(path):
            yield line, _json_object(raw)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with _told(path), _open(path) as file:
        for line, raw in enumerate(file, 1):
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that Windows editors put in front
            raw = raw.rstrip(b"\r\n")
            if raw.strip():
                yield line, raw


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _json_object(raw: bytes) -> Row | _Bad:
    if b"\0" in raw:
        return _Bad(raw, "holds NUL bytes; the file is damaged or no UTF-8 text")
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_float)
        if b"\\ud" in raw.lower():
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        return _Bad(raw, f"not UTF-8 (byte {error.start} of the line); convert the file to UTF-8")
    except UnicodeEncodeError:
        return _Bad(raw, "holds half of a surrogate pair (\\ud800-\\udfff); repair the character or drop the row")
    except OverflowError:
        return _from_columns(json.loads(raw), raw)  # names the field
    except RecursionError:
        return _Bad(raw, "nested too deeply; a row is one flat JSON object")
    except ValueError as error:
        if raw.lstrip().startswith(b"["):
            return _Bad(raw, _ARRAY)
        where = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return _Bad(raw, f"not JSON ({where}); write one JSON object a line")
    if isinstance(row, list):
        return _Bad(raw, _ARRAY)
    if isinstance(row, dict) and row.keys() == REJECTED:
        inner = row["row"]
        return inner if isinstance(inner, dict) else _json_object(_as_written(inner).encode("utf-8"))
    return row if isinstance(row, dict) else _Bad(raw, 'not a JSON object; write rows like {"prompt": "..."}')


def _as_written(inner: Any) -> str:
    """A row that was no JSON object was put aside as the text of its line."""
    return inner if isinstance(inner, str) else json.dumps(inner)


_ARRAY = "a JSON array; write one object a line instead (jq -c '.[]' FILE.json > FILE.jsonl)"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value, use null")


_BEYOND = "a number beyond what 64-bit floats hold; write a smaller one, or leave it out"


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise OverflowError(_BEYOND)
    return value


def _from_columns(row: Row, raw: bytes | None = None) -> Row | _Bad:
    """A Parquet row as JSON would hold it."""
    try:
        plain: Row = _from_column(row)
    except ValueError as error:
        return _Bad(raw or json.dumps(row, ensure_ascii=False, default=str).encode("utf-8"), str(error))
    return plain


def _from_column(value: Any, field: str = "") -> Any:
    """No such field instead of a null (pandas writes NaN), text instead of bytes, and dates and the like as strings."""
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
                f"field '{field}': bytes that are no UTF-8 text; write text there, or leave the column out"
            ) from None
    if isinstance(value, float) and not math.isfinite(value):
        if math.isinf(value):
            raise ValueError(f"field '{field}': {_BEYOND}")
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """The opened file. What Parquet has against it, now or while it is read, is told in one line."""
    parquet = _pyarrow_parquet(path)
    from pyarrow import ArrowException

    with _told(path):
        try:
            with parquet.ParquetFile(path) as file:
                yield file
        except (ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # the system's word, not Parquet's
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path}: not a Parquet file, or a damaged one ({reason}); check its name or fetch it again"
            ) from None


def _pyarrow_parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow; pip install 'heedful[train]', or use .jsonl") from None
    return parquet


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says in one line what the operating system, gzip or Parquet has against a file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (EOFError, zlib.error):
        raise UserError(f"{path}: the gzip file is cut off or damaged; fetch or write it again") from None
    except gzip.BadGzipFile:
        raise UserError(f"{path}: named .gz and not gzip; rename it or compress it") from None
    except OSError as error:
        raise UserError(refused(error, path)) from None


# --- writing -----------------------------------------------------------------------------------------------


def _line(path: Path, number: int, row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (ValueError, TypeError) as error:  # NaN, half surrogates, objects that JSON has no form for
        raise UserError(f"{path}: row {number} cannot be written as JSON ({error}); nothing was written") from None


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
            f"{path}: Parquet wants one type for each field and integers of 64 bits ({reason}); write .jsonl instead"
        ) from None
    return bytes(buffer.getvalue())


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content takes the place of `path` when all is written."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.writing(path) as file:
            yield file
