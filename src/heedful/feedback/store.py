"""The database of people's work: a SQLite file, or PostgreSQL by URL. The other modules work within its transactions.

    store = Store.open("heedful.db")
    with store.writing() as db:
        people.invite(db, ...)

When `writing` has been left, what was written survives a kill or a power cut.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import migrate

BUSY_SECONDS = 30
CONNECTIONS = 48  # at once; more than a server has threads
PRAGMAS = (
    "journal_mode = wal",
    "synchronous = full",  # what was committed survives a power cut, too
    "foreign_keys = on",
    "secure_delete = on",  # what was redacted is overwritten
    "cache_size = -16000",
)


class Store:
    """Use `Store.open`. Rows that a transaction returned may be read after its end."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writers = engine.execution_options(immediate=True)
        # Writers of this process queue here: SQLite waits by ever longer naps, and in PostgreSQL one would hold its
        # locks while the others keep the interpreter from it.
        self._turn = threading.Lock()

    @classmethod
    def open(cls, where: str | Path, *, create: bool = True) -> Store:
        """Open a SQLite file or a PostgreSQL database (by URL), brought up to date.

        Raises UserError where it cannot be reached, is another program's, or, without `create`, is not there.
        """
        url = _url(str(where))
        path = url.database if url.get_backend_name() == "sqlite" else None
        if path and not create and not Path(path).is_file():
            raise UserError(f"{path}: no such database; start one with `heedful label`")
        try:
            engine = _engine(url)
            look = sa.create_engine(url, poolclass=sa.NullPool)  # our pragmas would change another program's file
            with look.connect() as connection:
                migrate.check(connection, create=create)
            store = cls(engine)
            with store._writers.begin() as connection:
                migrate.upgrade(connection)
        except (OperationalError, DBAPIError) as error:
            reason = " ".join(str(error.orig).split())
            raise UserError(f"{migrate.named(url)}: cannot be opened ({reason}); check the path or URL") from None
        return store

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one state of the database; nothing of it is kept."""
        with Session(self.engine, expire_on_commit=False, autoflush=False) as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: all of it or, after an exception, nothing."""
        with self._turn, Session(self._writers, expire_on_commit=False) as db, db.begin():
            yield db

    def close(self) -> None:
        self.engine.dispose()


def _url(where: str) -> sa.URL:
    try:
        url = sa.make_url(where) if "://" in where else sa.URL.create("sqlite", database=where)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise UserError(f"{where}: not the URL of a database; write postgresql://user@host/name or a path") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):  # each connection would have one of its own, and end it
            raise UserError(f"'{where}': no place that keeps a database; give a SQLite file or postgresql://...")
        return url
    raise UserError(f"{url.render_as_string()}: not a database heedful knows; give a SQLite file or postgresql://...")


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise UserError("PostgreSQL needs psycopg: pip install 'heedful[postgres]'") from None
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=CONNECTIONS,
        max_overflow=0,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun in `_begin`, not guessed by the driver
    for pragma in PRAGMAS:
        connection.execute(f"pragma {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("begin immediate" if immediate else "begin")
