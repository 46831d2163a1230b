"""The whole database into one file, and back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from heedful.config import UserError
from heedful.feedback.schema import Base, Event
from heedful.feedback.store import Store

BATCH = 500
HEADER = b"SQLite format 3\0"


def backup(store: Store, path: str | Path) -> int:
    """Write all of it into a new SQLite file while people work; returns the number of events in it.

    PostgreSQL, too, is backed up as SQLite: one format, which `restore` puts into either.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: already exists; choose another name for the backup")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if store.is_sqlite:
            _copy_file(store, scratch)
        else:
            with _opened(scratch) as target, store.engine.connect() as source, target.writing() as db:
                source.execute(sa.text("set transaction isolation level repeatable read read only"))
                _copy_tables(source, db.connection())
        with closing(sqlite3.connect(scratch)) as copy:
            copy.execute("pragma journal_mode = delete")  # one file, nothing beside it
            (events,) = copy.execute("select count(*) from event").fetchone()
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        for leftover in path.parent.glob(f"{scratch.name}*"):
            leftover.unlink()
    return int(events)


def restore(path: str | Path, where: str | Path) -> int:
    """Put a backup into an empty database (a path that is free, or the URL of a PostgreSQL without tables); returns the
    number of events. UserError where something is there already, or the file is no backup.
    """
    path = Path(path)
    if not _is_sqlite(path):
        raise UserError(f"{path}: not a backup; give a file that was written as one")
    if "://" not in str(where):
        if Path(where).exists():
            raise UserError(f"{where}: already exists; move it away or restore to another place")
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, where)
        with _opened(where) as store, store.reading() as db:
            return _events(db.connection())
    with tempfile.TemporaryDirectory() as folder:  # a backup of an older heedful is brought up to date, its file is not
        copy = Path(shutil.copyfile(path, Path(folder) / path.name))
        with _opened(copy) as old, _opened(where) as new, old.reading() as source, new.writing() as target:
            if any(target.scalar(sa.select(table).limit(1)) is not None for table in Base.metadata.sorted_tables):
                raise UserError(f"{where}: holds data already; restore into an empty database")
            _copy_tables(source.connection(), target.connection())
            return _events(target.connection())


@contextmanager
def _opened(where: str | Path) -> Iterator[Store]:
    """A store that is closed again."""
    store = Store.open(where)
    try:
        yield store
    finally:
        store.close()


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def _events(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(Event)) or 0)


def _copy_file(store: Store, path: Path) -> None:
    """SQLite's own online backup: one state of the database, writers going on meanwhile."""
    with store.engine.connect() as connection, closing(sqlite3.connect(path)) as copy:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.backup(copy)


def _copy_tables(source: sa.Connection, target: sa.Connection) -> None:
    """Row by row with their ids; parents before children."""
    for table in Base.metadata.sorted_tables:
        for rows in source.execute(sa.select(table).order_by(*table.primary_key)).mappings().partitions(BATCH):
            target.execute(sa.insert(table), [dict(row) for row in rows])
        if target.dialect.name == "postgresql" and "id" in table.columns:
            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
            highest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
            target.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(highest, 1), highest.is_not(None))))
