"""Copy the whole database into one file, and restore it."""

from __future__ import annotations

import glob
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from heedful import files
from heedful.config import UserError, refused
from heedful.feedback import events, migrate
from heedful.feedback.collected import Base
from heedful.feedback.schema import Event
from heedful.feedback.store import Store, shown

BATCH = 500


def backup(store: Store, path: str | Path) -> int:
    """Copy the database into a new SQLite file while people work. Returns the number of events in it.

    PostgreSQL, too, is backed up as SQLite: one format, which `restore` puts into either. Before the file takes its
    place, SQLite checks it and `events.verify_all` its chains of events. UserError if the file exists already, the
    database is damaged, or a chain does not fit.
    """
    path = Path(path)
    _check_free(path, "Choose another name for the backup")
    named = migrate.named(store.engine.url)
    with _replacing(path) as scratch:
        if store.is_sqlite:
            _copy_file(store, scratch)
            if (fault := _fault(scratch)) is not None:
                raise UserError(f"{named}: damaged ({fault}). No backup was made of it. Restore an earlier one")
        else:
            with closing(Store.open(scratch)) as target, store.engine.connect() as source, target.writing() as db:
                source.execute(sa.text("set transaction isolation level repeatable read read only"))
                _copy_tables(source, db.connection())
        with closing(Store.open(scratch)) as copy, copy.reading() as db:
            try:
                return sum(events.verify_all(db).values())
            except UserError as error:
                raise UserError(f"{named}: {error}. No backup was made of it. Restore an earlier one") from None


def restore(path: str | Path, where: str | Path) -> int:
    """Load a backup into an empty database and return the number of events.

    `where` is a path that does not exist yet, or the URL of an empty PostgreSQL database. UserError if it holds
    something already, or if the file is damaged or not a backup.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file. Check the path")
    if "://" not in str(where):
        _check_free(Path(where), "Move it away or restore to another place")
        with _replacing(Path(where)) as scratch, _copied(path, scratch) as store, store.reading() as db:
            return _events(db.connection())
    with (
        tempfile.TemporaryDirectory() as folder,
        _copied(path, Path(folder) / "copy.db") as old,
        closing(Store.open(where)) as new,
        old.reading() as source,
        new.writing() as target,
    ):
        if any(target.scalar(sa.select(table).limit(1)) is not None for table in Base.metadata.sorted_tables):
            raise UserError(f"{shown(where)}: holds data already. Restore into an empty database")
        _copy_tables(source.connection(), target.connection())
        return _events(target.connection())


def _log(path: Path) -> Path:
    """The path of SQLite's write-ahead log, which holds what is not yet in the file itself."""
    return Path(f"{path}-wal")


def _check_free(path: Path, remedy: str) -> None:
    """Raise UserError if the file or its log exists: SQLite would read an old log as that of the new file."""
    for place in (path, _log(path)):
        if place.exists():
            raise UserError(f"{place}: already exists. {remedy}")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path. The database written there takes the place of `path`. After an error nothing is left."""
    scratch = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path, sync=True) as scratch:
            scratch.touch()  # what stands in the way is told better by the system than by SQLite
            scratch.chmod(0o600)
            try:
                yield scratch
                with closing(sqlite3.connect(scratch)) as copy:
                    copy.execute("pragma journal_mode = delete")  # one file, nothing beside it
            finally:
                for log in scratch.parent.glob(f"{glob.escape(scratch.name)}-*"):
                    log.unlink()
    except OSError as error:
        named = error.filename not in (None, str(scratch))
        raise UserError(refused(error, error.filename if named else path)) from None
    except (sqlite3.OperationalError, OperationalError) as error:
        reason = getattr(error, "orig", error)
        raise UserError(f"{path}: cannot be written ({reason}). Free some space or choose another place") from None


@contextmanager
def _copied(path: Path, copy: Path) -> Iterator[Store]:
    """Open a copy of a backup as a store. Only the copy is migrated. UserError names the backup."""
    _fetch(path, copy)
    if (fault := _fault(copy)) is not None:
        raise UserError(f"{path}: damaged, or no backup ({fault}). Take another backup")
    try:
        store = Store.open(copy, create=False)
    except UserError as error:
        raise UserError(str(error).replace(str(copy), str(path))) from None
    with closing(store):
        yield store


def _fetch(path: Path, copy: Path) -> None:
    """Copy a file, together with what its log holds after a server was killed. The log is only read."""
    log = _log(path)
    if not (log.is_file() and log.stat().st_size):
        shutil.copyfile(path, copy)
        return
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{path}: cannot be read together with {log.name} ({error}). Copy both into a folder that can be"
            " written, or take another backup"
        ) from None


def _fault(path: Path) -> str | None:
    """The first fault that SQLite finds in a database, in one line, or None."""
    try:
        with closing(sqlite3.connect(path)) as file:
            (found,) = file.execute("pragma integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        found = str(error)
    return None if found == "ok" else " ".join(found.split())


def _events(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(Event)) or 0)


def _copy_file(store: Store, path: Path) -> None:
    """SQLite's online backup: one state of the database, while others write."""
    with store.engine.connect() as connection, closing(sqlite3.connect(path)) as copy:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.backup(copy)


def _copy_tables(source: sa.Connection, target: sa.Connection) -> None:
    """Copy all rows with their ids, parents before children."""
    for table in Base.metadata.sorted_tables:
        for rows in source.execute(sa.select(table).order_by(*table.primary_key)).mappings().partitions(BATCH):
            target.execute(sa.insert(table), [dict(row) for row in rows])
        numbered = table.autoincrement_column
        if target.dialect.name == "postgresql" and numbered is not None:
            sequence = sa.func.pg_get_serial_sequence(table.name, numbered.name)
            highest = sa.select(sa.func.max(numbered)).scalar_subquery()
            target.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(highest, 1), highest.is_not(None))))
