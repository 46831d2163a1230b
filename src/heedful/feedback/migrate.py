"""Migrate a database to the current tables. The migrations are in `migrations/versions/`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from heedful.config import UserError
from heedful.feedback import chats  # noqa: F401  # its tables are part of `Base`
from heedful.feedback.collected import Base

VERSION = "alembic_version"  # the table that holds it
FIRST = {VERSION, "assignment", "event", "membership", "person", "project"}  # tables of every version
LOCK = 4_715_003  # any number that is ours: one process at a time changes a database of PostgreSQL


def check(connection: sa.Connection, *, create: bool) -> None:
    """Raise UserError for another program's database and, without `create`, for one without heedful's tables."""
    tables = set(sa.inspect(connection).get_table_names())  # one query, as another process may be making them
    if not (tables >= FIRST or (create and tables <= {VERSION})):
        shown = ", ".join(sorted(tables)[:5]) or "none"
        raise UserError(
            f"{named(connection.engine.url)}: not a database of heedful (tables: {shown}). Give another one"
        )


def named(url: sa.URL) -> str:
    """The name of a database in messages: the path of a file, or the URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    return url.set(query={}).render_as_string()  # libpq takes a password there, too


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Run the migrations that the database lacks, within the transaction. UserError if a later heedful wrote it."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    there = MigrationContext.configure(connection).get_current_revision()
    if there == script.get_current_head():
        return
    if there is not None and there not in {step.revision for step in script.walk_revisions()}:
        raise UserError(f"{named(connection.engine.url)}: written by a later heedful. Upgrade heedful")
    environment = EnvironmentContext(Config(), script, fn=lambda revision, _: script._upgrade_revs(to, revision))
    with environment:
        environment.configure(connection=connection, target_metadata=Base.metadata)
        environment.run_migrations()
