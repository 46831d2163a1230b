"""Bringing a database up to date: the steps are in `migrations/versions/`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from heedful.config import UserError
from heedful.feedback.schema import Base

LOCK = 4_715_003  # any number that is ours: one process at a time changes a database of PostgreSQL


def upgrade(connection: sa.Connection) -> None:
    """Run the steps that the database lacks, within the transaction; UserError for one of a later heedful."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    there = MigrationContext.configure(connection).get_current_revision()
    if there == script.get_current_head():
        return
    if there is not None and there not in {step.revision for step in script.walk_revisions()}:
        raise UserError(f"{connection.engine.url.render_as_string()}: written by a later heedful; upgrade heedful")
    environment = EnvironmentContext(Config(), script, fn=lambda revision, _: script._upgrade_revs("head", revision))
    with environment:
        environment.configure(connection=connection, target_metadata=Base.metadata)
        environment.run_migrations()
