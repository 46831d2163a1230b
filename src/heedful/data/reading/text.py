"""Rows of files of text: JSON, JSON Lines, CSV, TSV, and TXT with one prompt a line."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from heedful.config import UserError
from heedful.data.reading.streams import FileLimits, opened
from heedful.data.reading.values import DEEP, LABELS, Bad, StrictJson, as_text, spelled_chat
from heedful.data.shapes import table
from heedful.data.text import counted
from heedful.files import Row

log = logging.getLogger(__name__)

NumberedRows = Iterator[tuple[int, Row | Bad]]
"""(line or row number from 1, row)."""

REJECTED = {"line", "reason", "row"}
"""The fields of a rejected row. Rows of several files also have `file`."""
_ARRAY = "a JSON array. Write one object a line instead (jq -c '.[]' FILE.json > FILE.jsonl)."
_NAMES_DELIMITER = re.compile(rb'"?sep=([,;\t|])"?[ \t]*\r?\n')
_LONGEST_CELL = 2**31 - 1
_LISTS = {"data", "rows", "examples", "records", "instances", "samples", "items", "train", "validation", "test"}
"""What an object calls its list of rows, if it has other fields too."""
# Cells of a table that hold JSON. The cells of all other columns are text.
JSON_CELLS = {
    "a", "answers", "b", "completions", "context", "conversation", "conversation_a", "conversation_b", "conversations",
    "completion_message", "finish", "history", "messages", "models", "none_acceptable", "order", "ranking", "ratings",
    "scores", "token_ids", "tools", "weight",
}  # fmt: skip
_OPENAI = {"input", "preferred_output", "non_preferred_output"}  # `input` alone is a text, as Alpaca has it
_NOT_LISTS = ("none_acceptable", "weight")


def json_rows(path: Path, limits: FileLimits) -> NumberedRows:
    """Rows of JSON Lines, of a JSON array, or of a JSON object that holds one list of objects."""
    with opened(path, limits) as file:
        lines: Iterable[tuple[int, bytes]] = enumerate(file, 1)
        head = list(itertools.islice(_filled(lines), 2))
        if not head:
            return
        start = head[0][1].lstrip()
        lines = itertools.chain(head, lines)
        if start.startswith(b"[") or (start.startswith(b"{") and (len(head) == 1 or not _is_json(head[0][1]))):
            lines = list(lines)
            document = _document(path, lines, tell=start.startswith(b"["))
            if document is not None:
                yield from document
                return
        for line, raw in _filled(lines):
            yield line, json_object(raw.rstrip(b"\r\n"))


def _filled(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    return ((line, raw) for line, raw in lines if raw.strip())


def json_object(raw: bytes) -> Row | Bad:
    """The row of one line of JSON."""
    if b"\0" in raw:
        return Bad(_shown(raw), "holds NUL bytes. The file is damaged, or not UTF-8 text.")
    decoder = StrictJson()
    try:
        row = decoder.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Bad(_shown(raw), f"not UTF-8 (byte {error.start} of the line). Convert the file to UTF-8.")
    except RecursionError:
        return Bad(_shown(raw), DEEP)
    except ValueError as error:
        if raw.lstrip().startswith(b"["):
            return Bad(_shown(raw), _ARRAY)
        where = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return Bad(_shown(raw), f"not JSON ({where}). Write one JSON object a line.")
    return _row(decoder.checked(row, _shown(raw)), raw)


def _row(row: Any, raw: bytes) -> Row | Bad:
    if isinstance(row, Bad):
        return row
    if isinstance(row, list):
        return Bad(_shown(raw), _ARRAY)
    if not isinstance(row, dict):
        return Bad(_shown(raw), 'not a JSON object. Write rows like {"prompt": "..."}')
    if row.keys() - {"file"} == REJECTED:
        inner = row["row"]  # a row that was not a JSON object is stored as text
        return inner if isinstance(inner, dict) else json_object(as_text(inner).encode("utf-8"))
    return row


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def _document(path: Path, lines: list[tuple[int, bytes]], *, tell: bool) -> NumberedRows | None:
    """The rows of one JSON document. None if it is none, or an error if `tell`."""
    decoder = StrictJson()
    parts: list[bytes] = []
    last = 0
    for line, raw in lines:  # with the empty lines that were left out, so that errors name the line of the file
        parts += [b"\n" * (line - last - 1), raw]
        last = line
    text = b"".join(parts)
    try:
        document = decoder.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        if not tell:
            return None
        line = text.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8. Convert the file to UTF-8.") from None
    except RecursionError:
        if not tell:
            return None
        raise UserError(f"{path}: {DEEP}") from None
    except ValueError as error:
        if not tell or _is_json(lines[0][1]):
            return None
        where = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{path}{where}: not JSON ({reason}). Repair it or write it again.") from None
    rows = document if isinstance(document, list) else _listed(path, document)
    return ((n, _element(decoder, row)) for n, row in enumerate(rows, 1))


def _element(decoder: StrictJson, row: Any) -> Row | Bad:
    checked = decoder.checked(row, row)
    if isinstance(checked, Bad):
        return Bad(as_text(row), checked.reason)
    return row if isinstance(row, dict) and "reason" not in row else _row(checked, as_text(row).encode("utf-8"))


def _listed(path: Path, document: Any) -> list[Any]:
    """The rows of an object: its one list of objects, unless the object itself is a row."""
    if not isinstance(document, dict):
        return [document]
    if _is_columns(document):
        raise UserError(f"{path}: holds columns and not rows. Save it as a list of rows (pandas: orient='records').")
    if table.find(document) is not None:
        return [document]
    lists = {name: inner for name, inner in document.items() if _is_table(inner)}
    lists = {name: inner for name, inner in lists.items() if len(document) == 1 or name.lower() in _LISTS}
    if not lists:
        return [document]
    if len(lists) > 1:
        raise UserError(f"{path}: holds several lists of rows ({', '.join(lists)}). Write each to a file of its own.")
    ((name, rows),) = lists.items()
    if others := [other for other in document if other != name]:
        _tell_unread(path, name, ", ".join(others))
    return rows


@functools.lru_cache(maxsize=64)  # a command reads its file several times, and says this once
def _tell_unread(path: Path, name: str, others: str) -> None:
    log.warning("%s: the rows are in '%s'. Not used: %s", path, name, others)


def _is_table(value: Any) -> bool:
    rows = isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
    return rows and not all("role" in row for row in value)


def _is_columns(document: Row) -> bool:
    """Whether a document is a table by columns: lists of one length with texts, or objects with the same keys."""
    columns = list(document.values())
    if len(columns) < 2:
        return False
    if all(isinstance(column, list) for column in columns):
        texts = any(isinstance(value, str) for column in columns for value in column)
        return texts and len({len(column) for column in columns}) == 1
    return all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns)


def table_rows(path: Path, limits: FileLimits, *, tabs: bool) -> NumberedRows:
    """Rows of CSV or TSV. The first line names the fields. Empty cells are left out."""
    csv.field_size_limit(_LONGEST_CELL)
    with opened(path, limits) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        line = 1
        try:
            delimiter = "\t" if tabs else _delimiter(file)
            if not tabs and _NAMES_DELIMITER.match(file.peek(16)):  # type: ignore[attr-defined]
                text.readline()
                line = 2
            reader, before = csv.reader(text, delimiter=delimiter, strict=True), line
            header: list[str] = []
            for cells in reader:
                if not header and any(cell.strip() for cell in cells):
                    header = _header(path, line, cells)
                elif any(cell.strip() for cell in cells):
                    yield line, _cells(header, cells)
                line = reader.line_num + before
        except UnicodeDecodeError:
            raise UserError(
                f"{path}:{line}: not UTF-8 after this line. Save the file as UTF-8 (Excel: CSV UTF-8)."
            ) from None
        except csv.Error as error:
            raise UserError(f"{path}:{line}: not CSV ({error}). Quote cells that hold quotes or line ends.") from None
        finally:
            text.detach()


def _delimiter(file: BinaryIO) -> str:
    """The delimiter of a .csv: a comma, or what Excel writes in its place. It may name it in a first line `sep=;`."""
    head = file.peek(1 << 16)  # type: ignore[attr-defined]
    if (named := _NAMES_DELIMITER.match(head)) is not None:
        return named[1].decode()
    head = re.sub(rb'"[^"]*"', b"", head).split(b"\n")[0]
    counts = {mark: head.count(mark.encode()) for mark in (",", ";", "\t", "|")}
    return max(counts, key=lambda mark: counts[mark])  # the first of those that come equally often


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    if cells[0].lstrip().startswith(("{", "[")):
        raise UserError(f"{path}:{line}: holds JSON, not a table. Name the file .jsonl.")
    names = [cell.strip() or f"column {n}" for n, cell in enumerate(cells, 1)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}:{line}: two columns are called '{twice[0]}'. Rename one.")
    return names


def _cells(header: list[str], cells: list[str]) -> Row | Bad:
    if not any(cell.strip() for cell in cells[len(header) :]):  # Excel writes commas after the last cell
        cells = cells[: len(header)]
    if len(cells) != len(header):
        raw = dict(zip(header, cells, strict=False))
        cells_found = f"{counted(len(cells), 'cells')} under {counted(len(header), 'names')}"
        return Bad(raw, f"{cells_found}. Quote cells that hold the delimiter.")
    known = JSON_CELLS | (_OPENAI if set(header) >= _OPENAI else set())
    row: Row = {name: _cell(name, cell, known) for name, cell in zip(header, cells, strict=True) if cell != ""}
    row |= {name: None for name, cell in zip(header, cells, strict=True) if cell == "" and name in LABELS}
    return next((value for value in row.values() if isinstance(value, Bad)), row)


def _cell(name: str, cell: str, known: Collection[str]) -> Any:
    """The value of a cell: JSON in the columns that hold JSON, and where a chat takes the place of a text."""
    if name not in known:
        try:
            return cell if name == "text" else spelled_chat(cell) or cell
        except ValueError as error:
            return Bad(cell, f"field '{name}': {error}")
    decoder = StrictJson()
    try:
        value = decoder.loads(cell.lower() if name in _NOT_LISTS else cell)  # Excel writes TRUE
    except (ValueError, RecursionError):
        return cell
    # "4" and "true" are texts too, as answers in `a` and `b`
    return decoder.checked(value, cell) if isinstance(value, list | dict) or name in _NOT_LISTS else cell


def text_rows(path: Path, limits: FileLimits, field: str) -> NumberedRows:
    """Rows of plain text: each line that is not empty is a row with this field."""
    with opened(path, limits) as file:
        for line, raw in enumerate(file, 1):
            raw = raw.rstrip(b"\r\n")
            if b"\0" in raw:
                yield line, Bad(_shown(raw), "holds NUL bytes. The file is damaged, or not UTF-8 text.")
            elif b"\r" in raw:
                yield line, Bad(_shown(raw), "holds a carriage return. Save the file with LF or CRLF line ends.")
            elif raw.strip():
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    reason = f"not UTF-8 (byte {error.start} of the line). Convert the file to UTF-8."
                    yield line, Bad(_shown(raw), reason)
                    continue
                if line == 1 and text.startswith("{") and _is_json(raw):
                    raise UserError(f"{path}:{line}: holds JSON, not plain text. Name the file .jsonl.")
                yield line, {field: text}
