"""Values of rows as JSON has them, and rows that cannot be read."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from typing import Any

from heedful.files import Row

BEYOND = "a number beyond what 64-bit floats hold. Write a smaller one, or leave it out."
HUGE = "a whole number of more than 64 bits. Write it as text, or leave it out."
NAN = "is not a JSON value. Write null."
TWICE = "the row names it twice. Delete one of the two."
DEEP = "nested too deeply. A row is one flat JSON object."
SURROGATE = "holds half of a surrogate pair (\\ud800-\\udfff). Repair the character or delete the row."
_MOST_INTEGER = 2**64
_CHAT = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:.*\}\s*,?\s*\]\s*\Z""", re.DOTALL)
_BETWEEN = re.compile(r"\}[ \t]*\n\s*\{")  # arrays of numpy. Inside a text, Python spells a line break as \n
CHAT_FIELDS = {
    "prompt", "chosen", "rejected", "completion", "messages", "conversations", "conversation", "context", "history",
    "conversation_a", "conversation_b",
}  # fmt: skip
"""Fields in which a text that spells a list of messages is that list. In other fields it may be an answer in JSON."""
LABELS = {"label", "kto_tag", "is_safe"}
"""Columns of which an empty cell says something: nobody judged the answer of the row."""


class Bad:
    """A row that cannot be read, with the reason. `raw` is what the file has there."""

    def __init__(self, raw: Any, reason: str):
        self.raw, self.reason = raw, reason


class _Wrong:
    """Takes the place of a value that JSON cannot hold, until the row is known."""

    def __init__(self, reason: str):
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class StrictJson:
    """A JSON decoder that finds what `json.loads` lets through: NaN, infinity, huge numbers, keys that come twice.

    Such values become part of the document. `checked` then tells the field of the first one.
    """

    def __init__(self) -> None:
        self._wrong = False

    def loads(self, text: str) -> Any:
        """The document. ValueError or RecursionError if it is not JSON."""
        self._wrong = "\\ud" in text or "\\uD" in text
        return json.loads(
            text,
            parse_constant=lambda name: self._mark(f"{name} {NAN}"),
            parse_float=self._float,
            parse_int=self._int,
            object_pairs_hook=self._pairs,
        )

    def checked(self, value: Any, raw: Any) -> Any:
        """The value, or a `Bad` that names the field of the first wrong part."""
        if self._wrong and (found := first_wrong(value, _reason)):
            return Bad(raw, found)
        return value

    def _mark(self, reason: str) -> _Wrong:
        self._wrong = True
        return _Wrong(reason)

    def _float(self, text: str) -> Any:
        value = float(text)
        return self._mark(BEYOND) if math.isinf(value) else value

    def _int(self, text: str) -> Any:
        if len(text) < 19:
            return int(text)
        return self._mark(HUGE) if len(text) > 21 or abs(int(text)) > _MOST_INTEGER else int(text)

    def _pairs(self, pairs: list[tuple[str, Any]]) -> Row:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            found[next(name for name in names if names.count(name) > 1)] = self._mark(TWICE)
        return found


def parsed(text: str) -> Any:
    """The document that a text in a row spells. ValueError also for NaN, huge numbers and keys that come twice."""
    decoder = StrictJson()
    try:
        found = decoder.checked(decoder.loads(text), text)
    except RecursionError:
        raise ValueError(DEEP) from None
    if isinstance(found, Bad):
        raise ValueError(found.reason)
    return found


def as_text(value: Any) -> str:
    """A value as JSON for people to repair. What JSON cannot hold becomes words."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def first_wrong(value: Any, reason: Callable[[Any], str | None], field: str = "") -> str | None:
    """ "field 'a.b': reason" for the first part of a value that has a reason, else None."""
    if isinstance(value, dict):
        parts = ((f"{field}.{key}" if field else str(key), inner) for key, inner in value.items())
        return next(filter(None, (first_wrong(inner, reason, name) for name, inner in parts)), None)
    if isinstance(value, list):
        return next(filter(None, (first_wrong(inner, reason, field) for inner in value)), None)
    told = reason(value)
    return told and (f"field '{field}': {told}" if field else told)


def _reason(value: Any) -> str | None:
    if isinstance(value, _Wrong):
        return value.reason
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return SURROGATE
    return None


def spelled_chat(text: str) -> list[Row] | None:
    """The messages that a text spells as JSON, or as Python and pandas write a list. None for any other text.

    ValueError for a text that begins and ends like a list of messages and is none.
    """
    if not _CHAT.match(text):
        return None
    for read in (json.loads, ast.literal_eval, lambda spelled: ast.literal_eval(_BETWEEN.sub("}, {", spelled))):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if wrong_text(found):
            raise ValueError(SURROGATE)
        turns = isinstance(found, list) and all(isinstance(turn, dict) for turn in found)
        return found if turns and all(isinstance(turn.get("role", turn.get("from")), str) for turn in found) else None
    raise ValueError("looks like a list of messages, and is not JSON. Write it as JSON.")


def wrong_text(value: Any) -> str | None:
    """ "field 'a': reason" for the first text in a value that is half of a character, else None."""
    return first_wrong(value, _reason)


def with_chats(row: Row | Bad) -> Row | Bad:
    """A row with its chats as lists, where the file spells them as text or as columns."""
    if isinstance(row, Bad):
        return row
    for name in row.keys() & CHAT_FIELDS:
        if isinstance(row[name], dict) and (columns := _turns(row[name])):
            row = row | {name: columns}
        if not isinstance(row[name], str):
            continue
        try:
            turns = spelled_chat(row[name])
        except ValueError as error:
            return Bad(row, f"field '{name}': {error}")
        if turns is not None and (name != "completion" or all(turn.get("role") == "assistant" for turn in turns)):
            row = row | {name: turns}
    return row


def _turns(columns: Row) -> list[Row] | None:
    """The messages in columns of one length, as `datasets` saves a sequence of objects. None for anything else."""
    if not columns.keys() >= {"role", "content"} and not columns.keys() >= {"from", "value"}:
        return None
    lists = list(columns.values())
    if not all(isinstance(column, list) and len(column) == len(lists[0]) for column in lists):
        return None
    return [dict(zip(columns, turn, strict=True)) for turn in zip(*lists, strict=True)]


def from_columns(row: Row) -> Row | Bad:
    """A row of a table of columns with the values that JSON has."""
    try:
        plain: Row = _from_column(row)
    except ValueError as error:
        return Bad(as_text(row), str(error))
    return plain | {name: None for name in row.keys() & LABELS if name not in plain}


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
            raise ValueError(f"field '{field}': {BEYOND}")
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
