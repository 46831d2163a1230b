"""The first tables, as they were then. `schema.py` describes the tables of today."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import IdColumn, JsonColumn, Time

revision = "0001"
down_revision = None

tables = sa.MetaData()


def upgrade() -> None:
    tables.create_all(op.get_bind(), checkfirst=False)


def _table(name: str, *parts: sa.schema.SchemaItem) -> None:
    sa.Table(name, tables, *parts)


def _id() -> sa.Column[int]:
    return sa.Column("id", IdColumn, primary_key=True)


def _link(name: str, to: str, **options: Any) -> sa.Column[int]:
    """A column with the id of a row of another table. The database requires one unless `nullable`."""
    return sa.Column(name, IdColumn, sa.ForeignKey(f"{to}.id"), **{"nullable": False, **options})


def _column(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    """A column that always has a value."""
    return sa.Column(name, kind, nullable=False, **options)


def _where(sqlite: str, postgresql: str | None = None) -> dict[str, Any]:
    """Options of an index over some of the rows. Without `postgresql`, both databases get the same condition."""
    return {"sqlite_where": sa.text(sqlite), "postgresql_where": sa.text(postgresql or sqlite)}


_table(
    "person",
    _id(),
    _column("name", sa.String(100), unique=True),
    sa.Column("password_hash", sa.Text),
    _column("admin", sa.Boolean),
    _column("created", Time),
    sa.Column("deleted", Time),
)
_table(
    "project",
    _id(),
    _column("name", sa.String(60), unique=True),
    _column("title", sa.String(200)),
    _column("settings", JsonColumn),
    _column("created", Time),
    sa.Column("archived", Time),
    _column("head", sa.String(64)),
)
_table(
    "audit",
    _id(),
    _column("at", Time),
    _link("person_id", "person", nullable=True, index=True),
    _link("project_id", "project", nullable=True, index=True),
    _column("action", sa.String(60)),
    _column("target", sa.String(200)),
    _column("detail", JsonColumn),
)
_table(
    "consent",
    _link("project_id", "project", primary_key=True),
    _link("person_id", "person", primary_key=True),
    _column("version", sa.Integer, primary_key=True),
    _column("at", Time),
)
_table(
    "instruction",
    _id(),
    _link("project_id", "project"),
    _column("kind", sa.String(10)),
    _column("version", sa.Integer),
    _column("text", JsonColumn),
    _column("at", Time),
    _link("person_id", "person", nullable=True),
    sa.UniqueConstraint("project_id", "kind", "version"),
)
_table(
    "invitation",
    _id(),
    _link("project_id", "project", nullable=True, index=True),
    _column("role", sa.String(20)),
    sa.Column("group_name", sa.String(100)),
    sa.Column("phase", sa.String(20)),
    sa.Column("note", sa.String(200)),
    _column("token_hash", sa.String(64), unique=True),
    _column("created", Time),
    _link("created_by", "person", nullable=True),
    _column("expires", Time),
    sa.Column("used", Time),
    _link("used_by", "person", nullable=True),
    sa.Column("revoked", Time),
)
_table(
    "item",
    _id(),
    _column("ref", sa.String(24), unique=True),
    _link("project_id", "project"),
    _column("kind", sa.String(20)),
    _column("purpose", sa.String(20)),
    sa.Column("source", sa.String(200)),
    _column("payload", JsonColumn),
    _column("payload_sha256", sa.String(64)),
    _column("prompt_sha256", sa.String(64)),
    _column("texts_sha256", sa.String(64)),
    sa.Column("gold", JsonColumn),
    sa.Column("explanation", JsonColumn),
    sa.Column("scores", JsonColumn),
    _column("created", Time),
    _column("priority", sa.Integer),
    _column("draw", sa.Float),
    _column("double_draw", sa.Float),
    _column("rank", sa.Float),
    sa.Column("wanted", sa.Integer),
    _column("taken", sa.Integer),
    _column("had_by", sa.Text),
    _column("open", sa.Boolean),
    sa.Column("held", sa.String(200)),
    sa.Column("redacted", Time),
    sa.Index("ix_item_held", "project_id", "id", **_where("held IS NOT NULL")),
    sa.Index("ix_item_list", "project_id", "purpose", "kind", "open", "id"),
    sa.Index("ix_item_prompt", "project_id", "prompt_sha256"),
    sa.Index(
        "ix_item_queue",
        *("project_id", "purpose", "kind", sa.text("priority DESC"), "had_by", "rank", "id"),
        **_where("open = 1", "open"),
    ),
    sa.Index("ix_item_texts", "project_id", "texts_sha256"),
)
_table(
    "membership",
    _link("project_id", "project", primary_key=True),
    _link("person_id", "person", primary_key=True, index=True),
    _column("role", sa.String(20)),
    sa.Column("group_name", sa.String(100)),
    _column("phase", sa.String(20)),
    sa.Column("topics", JsonColumn),
    _column("served", sa.Integer),
    _column("joined", Time),
    sa.Column("paused", Time),
    sa.Column("paused_why", sa.Text),
    sa.Column("left", Time),
)
_table(
    "snapshot",
    _id(),
    _link("project_id", "project", index=True),
    _column("path", sa.Text),
    _column("records", sa.String(20)),
    _column("rows", sa.Integer),
    _column("sha256", sa.String(64), index=True),
    _column("filters", JsonColumn),
    _column("created", Time),
    _link("created_by", "person", nullable=True),
)
_table(
    "tally",
    _link("project_id", "project", primary_key=True),
    _link("person_id", "person", primary_key=True),
    _column("day", sa.Date, primary_key=True),
    _column("kind", sa.String(20), primary_key=True),
    _column("purpose", sa.String(20), primary_key=True),
    _column("judgements", sa.Integer),
    _column("milliseconds", IdColumn),
)
_table(
    "token",
    _id(),
    _link("person_id", "person", index=True),
    _column("kind", sa.String(10)),
    sa.Column("name", sa.String(100)),
    _column("token_hash", sa.String(64), unique=True),
    _column("created", Time),
    sa.Column("expires", Time),
)
_table(
    "event",
    _id(),
    _link("project_id", "project"),
    _column("kind", sa.String(10)),
    _link("item_id", "item"),
    _link("person_id", "person"),
    _link("refers_to", "event", nullable=True),
    _column("at", Time),
    sa.Column("seconds", sa.Float),
    sa.Column("instructions", sa.Integer),
    sa.Column("shown_order", JsonColumn),
    _column("payload_sha256", sa.String(64)),
    sa.Column("content", JsonColumn),
    sa.Column("salt", sa.String(32)),
    _column("content_sha256", sa.String(64)),
    _column("previous", sa.String(64)),
    _column("hash", sa.String(64), unique=True),
    _column("idempotency_key", sa.String(100)),
    sa.Column("redacted", Time),
    sa.UniqueConstraint("person_id", "idempotency_key"),
    sa.Index("ix_event_item", "item_id", "id"),
    sa.Index("ix_event_person", "project_id", "person_id", "id"),
    sa.Index("ix_event_project", "project_id", "id"),
)
_table(
    "assignment",
    _id(),
    _column("token", sa.String(40), unique=True),
    _link("project_id", "project"),
    _link("item_id", "item"),
    _link("person_id", "person"),
    _column("kind", sa.String(20)),
    _column("shown_order", JsonColumn),
    _column("state", sa.String(10)),
    _column("created", Time),
    _column("expires", Time),
    sa.Column("draft", JsonColumn),
    sa.Column("drafted", Time),
    _link("event_id", "event", nullable=True),
    _link("corrects", "event", nullable=True),
    sa.UniqueConstraint("item_id", "person_id"),
    sa.Index("ix_assignment_event", "event_id"),
    sa.Index("ix_assignment_live", "project_id", "expires", **_where("state = 'live'")),
    sa.Index("ix_assignment_person", "project_id", "person_id", "state", "expires"),
)
_table(
    "demonstration_rating",
    _link("event_id", "event", primary_key=True),
    _link("person_id", "person", primary_key=True),
    _column("rating", sa.Integer),
    _column("at", Time),
)
_table(
    "snapshot_event",
    _link("snapshot_id", "snapshot", primary_key=True),
    _link("event_id", "event", primary_key=True, index=True),
)
