"""Rows of Parquet and Arrow files, through pyarrow, a few rows at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.data.reading.streams import FileLimits, needs_pyarrow, told, too_large
from heedful.data.reading.values import Bad, from_columns
from heedful.files import Row

_ROWS = 256  # rows that are decoded together
_VALUE = 8  # bytes of a number
_PIECE = 8_000_000  # bytes of values that become Python objects together


def parquet_rows(path: Path, limits: FileLimits) -> Iterator[tuple[int, Row | Bad]]:
    """(row number from 1, row) of a Parquet file."""
    with parquet_file(path) as file:
        size = path.stat().st_size
        most = limits.bytes_of(size)
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > most or _VALUE * _in_lists(file, groups) > most:
            raise too_large(path, most)
        _check_rows(path, file.metadata.num_rows, limits)
        yield from _rows(path, file.iter_batches(batch_size=_ROWS), most)


def _in_lists(file: Any, groups: list[Any]) -> int:
    """The number of values in lists: a row of a few bytes can hold billions of equal ones."""
    schema = file.metadata.schema
    lists = [n for n in range(file.metadata.num_columns) if schema.column(n).max_repetition_level > 0]
    if not lists:
        return 0
    file.scan_contents(lists)  # a little at a time. Without it, a damaged file ends the process in the next line
    return sum(group.column(n).num_values for group in groups for n in lists)


def parquet_count(path: Path) -> int:
    """The number of rows of a Parquet file."""
    with parquet_file(path) as file:
        return int(file.metadata.num_rows)


def arrow_rows(path: Path, limits: FileLimits) -> Iterator[tuple[int, Row | Bad]]:
    """(row number from 1, row) of an Arrow file or stream, as `datasets` saves it."""
    pyarrow = _pyarrow(path)
    most = limits.bytes_of(path.stat().st_size)
    with _readable(path, "Arrow"):
        _check_packed(path, pyarrow, most)
        with pyarrow.memory_map(str(path)) as source:
            if _is_file(source):
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
            else:
                batches = iter(pyarrow.ipc.open_stream(source))
            yield from _rows(path, _counted(path, batches, limits), most)


def _is_file(source: Any) -> bool:
    """Whether this is Arrow's file format and not its stream format. Leaves the source at its start."""
    magic = source.read(6)
    source.seek(0)
    return bool(magic == b"ARROW1")


def _counted(path: Path, batches: Iterator[Any], limits: FileLimits) -> Iterator[Any]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        _check_rows(path, rows, limits)
        batch.validate(full=True)  # the buffers of a damaged file may point anywhere
        yield batch


def _check_rows(path: Path, rows: int, limits: FileLimits) -> None:
    most = limits.rows_of(path.stat().st_size)
    if rows > most:
        raise UserError(f"{path}: holds more than {most:,} rows. Give it in parts.")


def _rows(path: Path, batches: Iterator[Any], most: int) -> Iterator[tuple[int, Row | Bad]]:
    """The rows of batches. A dictionary can repeat a long text, so rows are counted as they become objects."""
    number, spent = 0, 0
    for batch in batches:
        start, step = 0, 1
        while start < batch.num_rows:
            found = batch.slice(start, step).to_pylist()
            start += step
            for row in found:
                number += 1
                size = _size(row)
                spent += size
                if spent > most:
                    raise too_large(path, most)
                yield number, from_columns(row)
            step = max(1, min(_ROWS, step * 2, _PIECE // max(1, size)))


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(_size(inner) for inner in value)
    return _VALUE


def _check_packed(path: Path, pyarrow: Any, most: int) -> None:
    """UserError if the compressed batches of an Arrow file say that they unpack to more than `most` bytes.

    A compressed buffer begins with its unpacked size. Uncompressed buffers are as large as the file.
    """
    with pyarrow.memory_map(str(path)) as source:
        source.seek(8 if _is_file(source) else 0)
        total = 0
        for message in pyarrow.ipc.MessageReader.open_stream(source):
            if message.type in ("record batch", "dictionary"):
                total += _unpacked_size(message.metadata.to_pybytes(), message.body)
                if total > most:
                    raise too_large(path, most)


def _unpacked_size(metadata: bytes, body: Any) -> int:
    """The sum of the unpacked sizes of the compressed buffers of a message (Arrow's flatbuffers Message)."""
    header = _field(metadata, _root(metadata), 2)
    if header is None:
        return 0
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    inner = _field(metadata, batch, 1) if _field_byte(metadata, _root(metadata), 1) == 2 else None
    if inner is not None:  # a dictionary holds a record batch
        batch = inner + struct.unpack_from("<I", metadata, inner)[0]
    if _field(metadata, batch, 3) is None:
        return 0  # not compressed
    vector = _field(metadata, batch, 2)
    if vector is None:
        return 0
    start = vector + struct.unpack_from("<I", metadata, vector)[0]
    total = 0
    for n in range(struct.unpack_from("<I", metadata, start)[0]):
        offset, length = struct.unpack_from("<qq", metadata, start + 4 + 16 * n)
        if length >= 8 and 0 <= offset <= len(body) - 8:
            total += max(0, struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0])
    return total


def _root(metadata: bytes) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """The place of a field of a flatbuffers table, or None if the table lacks it."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", metadata, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", metadata, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _field_byte(metadata: bytes, table: int, number: int) -> int:
    place = _field(metadata, table, number)
    return metadata[place] if place is not None else 0


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """The opened Parquet file. An error of Parquet, now or during reading, becomes one line."""
    _pyarrow(path)
    from pyarrow import parquet

    with _readable(path, "Parquet"):
        metadata = parquet.read_metadata(path)
        columns = [metadata.schema.column(n) for n in range(metadata.num_columns)]
        # A repeated text then takes memory once.
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY" and _is_text(column)]
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            yield file


def _is_text(column: Any) -> bool:
    return column.logical_type.type in ("STRING", "NONE")


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    from pyarrow import ArrowException

    with told(path):
        try:
            yield
        except (ArrowException, UnicodeDecodeError, OSError, struct.error) as error:
            if isinstance(error, OSError) and error.errno:
                raise  # an error of the system, not of the format
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{path}: not a {kind} file, or a damaged one ({reason}). Check its name or download it again."
            ) from None


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise needs_pyarrow(path) from None
    return pyarrow
