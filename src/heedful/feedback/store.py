"""The database of people's work: a SQLite file, or PostgreSQL by URL, and its transactions.

    store = Store.open("heedful.db")
    with store.writing() as db:
        people.invite(db, ...)

After the block of `writing`, what was written survives a kill or a power cut.
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

from heedful.config import UserError, install
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
    """A database. Use `Store.open`. Rows that a transaction returned can be read after its end."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._writers = engine.execution_options(immediate=True)
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
        try:
            engine = _engine(url)
            look = sa.create_engine(url, poolclass=sa.NullPool)  # no pragmas: they change a file
            with look.connect() as connection:
                migrate.check(connection, create=create)
            store = cls(engine)
            with store._writers.begin() as connection:
                migrate.upgrade(connection)
        except (OperationalError, DBAPIError) as error:
            reason = " ".join(str(error.orig).split())
            raise UserError(f"{migrate.named(url)}: cannot be opened ({reason}). Check the path or URL") from None
        return store

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that sees one state of the database and writes nothing."""
        with Session(self.engine, expire_on_commit=False, autoflush=False) as db:
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction. It is kept whole, or not at all after an exception."""
        with self._turn, Session(self._writers, expire_on_commit=False) as db, db.begin():
            yield db

    def close(self) -> None:
        self.engine.dispose()


def _url(where: str) -> sa.URL:
    try:
        url = sa.make_url(where) if "://" in where else sa.URL.create("sqlite", database=where)
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise UserError(f"{where}: not the URL of a database. Write postgresql://user@host/name or a path") from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):  # each connection would have its own, and lose it at the end
            raise UserError(f"'{where}': a database there would not be kept. Give a SQLite file or postgresql://...")
        return url
    raise UserError(f"{url.render_as_string()}: not a database heedful knows. Give a SQLite file or postgresql://...")


def _engine(url: sa.URL) -> sa.Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise UserError(f"PostgreSQL needs psycopg: {install('postgres')}") from None
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
    connection.isolation_level = None  # `_begin` begins transactions, not the driver
    for pragma in PRAGMAS:
        connection.execute(f"pragma {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("begin immediate" if immediate else "begin")
