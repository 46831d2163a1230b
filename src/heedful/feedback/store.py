"""The database of people's work: a SQLite file, or PostgreSQL by URL, and its transactions.

    store = Store.open("heedful.db")
    with store.writing() as db:
        people.invite(db, ...)

After the block of `writing`, what was written survives a kill or a power cut.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from heedful.config import UserError, install
from heedful.feedback import migrate

BUSY_SECONDS = 30
SCRUB_SECONDS = 5
ENCODED = "In a user's name or password, write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23 and % as %25"
CONNECT_SECONDS = 10  # to a server that may be away
CONNECTIONS = 48  # at once, more than a server has threads
PRAGMAS = (
    "journal_mode = wal",
    "synchronous = full",  # what was committed survives a power cut, too
    "foreign_keys = on",
    "secure_delete = on",  # what was redacted is overwritten
    "cache_size = -16000",
)


class StoreBusy(Exception):
    """Another writer kept this one waiting for too long."""


class Store:
    """A database. Use `Store.open`. Rows that a transaction returned can be read after its end."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writers = engine.execution_options(immediate=True)
        # PostgreSQL would show each statement of a reader another state
        self._readers = engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        # Writers of this process take turns here. SQLite would wait in ever longer sleeps. In PostgreSQL a writer would
        # hold its locks while the others keep the interpreter busy.
        self._turn = threading.Lock()

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> Store:
        """Open a SQLite file or a PostgreSQL database (by URL), and run the migrations that it lacks.

        Raises UserError if it cannot be reached, belongs to another program, or does not exist and `create` is false.
        """
        url = _url(str(where))
        path = url.database if url.get_backend_name() == "sqlite" else None
        if path and not create and not Path(path).is_file():
            raise UserError(f"{path}: no such database. Start one with `heedful label`")
        new = bool(path) and not Path(str(path)).exists()
        try:
            engine = _engine(url)
            if path:
                _keep_private(Path(path), create=create)
            look = sa.create_engine(url, poolclass=sa.NullPool)  # no pragmas: they change a file
            with look.connect() as connection:
                migrate.check(connection, create=create)
            store = cls(engine)
            with store._writers.begin() as connection:
                migrate.upgrade(connection)
        except (OperationalError, DBAPIError) as error:
            reason = " ".join(str(error.orig).split())
            hint = f". {ENCODED}" if url.password else ""
            full = path is not None and ("full" in reason or "disk I/O" in reason)
            remedy = "Free some space on its disk, then try again" if full else f"Check the path or URL{hint}"
            if path and new and full and not _has_tables(path):  # another process may have made them meanwhile
                _remove(path)
            raise UserError(f"{migrate.named(url)}: cannot be opened ({reason}). {remedy}") from None
        return store

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def place(self) -> str:
        """Where the database is, without user and password: the whole path of a file, or host, port and name."""
        url = self.engine.url
        if self.is_sqlite:
            return str(Path(url.database or "").resolve())
        return f"{url.host}:{url.port}/{url.database}"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and writes nothing."""
        with Session(self._readers, expire_on_commit=False, autoflush=False) as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction. It is kept whole, or not at all after an exception. Raises StoreBusy."""
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreBusy(f"another process or request writes for more than {BUSY_SECONDS} seconds")
        try:
            with Session(self._writers, expire_on_commit=False) as db, db.begin():
                yield db
        finally:
            self._turn.release()

    def scrub(self) -> bool:
        """After a deletion: empty SQLite's log, which holds earlier versions of pages. False if readers keep it in use.

        Deleted content in the file itself is overwritten at once (`secure_delete`).
        """
        if not self.is_sqlite:
            return True
        until = time.monotonic() + SCRUB_SECONDS
        while True:
            with contextlib.closing(self.engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute("pragma busy_timeout = 0")  # SQLite would wait for readers while no one can write
                (busy, *_) = cursor.execute("pragma wal_checkpoint(truncate)").fetchone()
                cursor.execute(f"pragma busy_timeout = {1000 * BUSY_SECONDS}")
            if not busy or time.monotonic() > until:
                return not busy
            time.sleep(0.05)

    def close(self) -> None:
        self.engine.dispose()


def _keep_private(path: Path, *, create: bool) -> None:
    """A database is for the account of the machine that runs heedful alone. SQLite gives its log the same mode."""
    with contextlib.suppress(OSError):  # what is wrong with the place, opening it tells
        if create and not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _has_tables(path: str) -> bool:
    """Whether a SQLite file may hold something. Only False is sure."""
    try:
        with contextlib.closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("select count(*) from sqlite_master").fetchone()[0])
    except sqlite3.Error:
        return True


def _remove(path: str) -> None:
    """Delete a SQLite file and its log."""
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            Path(path + end).unlink()


def shown(where: str | Path) -> str:
    """A path or URL as messages name it: nothing that may be part of a password, however the URL is written."""
    scheme, separator, rest = str(where).partition("://")
    if not separator:
        return str(where)
    _, at, place = rest.rpartition("@")
    place = place.partition("?")[0]  # a password may be there, too
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]*\]|[^:/]*)(:\d*)?(/.*)?", place) and not at:
        place = "***"  # somebody forgot the host
    return f"{scheme}://{'***@' if at else ''}{place}"


def _url(where: str) -> sa.URL:
    try:
        url = sa.make_url(where) if "://" in where else sa.URL.create("sqlite", database=where)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise UserError(
            f"{shown(where)}: not the URL of a database. Write postgresql://user@host/name or a path. {ENCODED}"
        ) from None
    if "://" in where and _is_ambiguous(where):
        raise UserError(f"{shown(where)}: it is not clear where the password ends. {ENCODED}")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):  # each connection would have its own, and lose it at the end
            raise UserError(f"'{where}': a database there would not be kept. Give a SQLite file or postgresql://...")
        return url
    raise UserError(f"{shown(where)}: not a database heedful knows. Give a SQLite file or postgresql://...")


def _is_ambiguous(where: str) -> bool:
    """Whether a sign that ends a part of a URL stands in front of the last @."""
    account, at, _ = where.partition("://")[2].rpartition("@")
    return bool(at) and any(sign in account for sign in "@/?#[]")


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() != "sqlite":
            waits = {"connect_timeout": CONNECT_SECONDS} if "connect_timeout" not in url.query else {}
            return sa.create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True, connect_args=waits)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise UserError(f"PostgreSQL needs psycopg: {install('postgres')}") from None
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,  # each connection caches the pages that it has read, so the fewest are used
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # `_begin` begins transactions, not the driver
    for pragma in PRAGMAS:
        connection.execute(f"pragma {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("begin immediate" if immediate else "begin")
