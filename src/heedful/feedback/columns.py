"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text, TypeDecorator

IdColumn = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows only for a column of its own type INTEGER."""


class Time(TypeDecorator[datetime]):
    """A time with its zone, in UTC. SQLite has no zones and stores it without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "times are aware"
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonColumn(TypeDecorator[Any]):
    """JSON as ASCII text. PostgreSQL refuses null characters and lone surrogates in text. Here they are escapes."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def canonical(value: Any) -> str:
    """The JSON text of a value as it is stored and hashed: sorted keys, ASCII, no spaces."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """SHA-256 of the JSON of a value, in hex."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def printable(text: str, most: int = 200) -> str:
    """A short text for a plain column, without the null characters and lone surrogates that PostgreSQL refuses."""
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
