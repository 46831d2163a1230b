"""The whole database into one file, and back."""

from __future__ import annotations

from pathlib import Path

from heedful.feedback.store import Store


def backup(store: Store, path: str | Path) -> int:
    """Write all of it into a new SQLite file while people work; returns the number of events in it.

    PostgreSQL, too, is backed up as SQLite: one format, which `restore` puts into either.
    """
    raise NotImplementedError


def restore(path: str | Path, where: str | Path) -> int:
    """Put a backup into an empty database (a path that is free, or the URL of a PostgreSQL without tables); returns the
    number of events. UserError where something is there already, or the file is no backup.
    """
    raise NotImplementedError
