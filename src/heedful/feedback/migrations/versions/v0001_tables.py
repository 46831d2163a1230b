"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import Id, Json, Time

revision = "0001"
down_revision = None


def upgrade() -> None:
    _person()
    _project()
    _audit()
    _consent()
    _instruction()
    _invitation()
    _item()
    _membership()
    _snapshot()
    _tally()
    _token()
    _event()
    _assignment()
    _demonstration_rating()
    _snapshot_event()


def _person() -> None:
    op.create_table(
        "person",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("admin", sa.Boolean(), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("deleted", Time(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _project() -> None:
    op.create_table(
        "project",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("settings", Json(), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("archived", Time(), nullable=True),
        sa.Column("head", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", Time(), nullable=False),
        sa.Column("person_id", Id, nullable=True),
        sa.Column("project_id", Id, nullable=True),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("detail", Json(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_person_id", "audit", ["person_id"])
    op.create_index("ix_audit_project_id", "audit", ["project_id"])


def _consent() -> None:
    op.create_table(
        "consent",
        sa.Column("project_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", Time(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("project_id", "person_id", "version"),
    )


def _instruction() -> None:
    op.create_table(
        "instruction",
        sa.Column("id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", Json(), nullable=False),
        sa.Column("at", Time(), nullable=False),
        sa.Column("person_id", Id, nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "kind", "version"),
    )


def _invitation() -> None:
    op.create_table(
        "invitation",
        sa.Column("id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=True),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("group_name", sa.String(length=100), nullable=True),
        sa.Column("phase", sa.String(length=20), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("created_by", Id, nullable=True),
        sa.Column("expires", Time(), nullable=False),
        sa.Column("used", Time(), nullable=True),
        sa.Column("used_by", Id, nullable=True),
        sa.Column("revoked", Time(), nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.ForeignKeyConstraint(["used_by"], ["person.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("ix_invitation_project_id", "invitation", ["project_id"])


def _item() -> None:
    op.create_table(
        "item",
        sa.Column("id", Id, nullable=False),
        sa.Column("ref", sa.String(length=24), nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=True),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("prompt_sha256", sa.String(length=64), nullable=False),
        sa.Column("texts_sha256", sa.String(length=64), nullable=False),
        sa.Column("gold", Json(), nullable=True),
        sa.Column("explanation", Json(), nullable=True),
        sa.Column("scores", Json(), nullable=True),
        sa.Column("created", Time(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("draw", sa.Float(), nullable=False),
        sa.Column("double_draw", sa.Float(), nullable=False),
        sa.Column("rank", sa.Float(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=True),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("had_by", sa.Text(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("held", sa.String(length=200), nullable=True),
        sa.Column("redacted", Time(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("ref"),
    )
    op.create_index(
        "ix_item_held",
        "item",
        ["project_id", "id"],
        sqlite_where=sa.text("held IS NOT NULL"),
        postgresql_where=sa.text("held IS NOT NULL"),
    )
    op.create_index("ix_item_list", "item", ["project_id", "purpose", "kind", "open", "id"])
    op.create_index("ix_item_prompt", "item", ["project_id", "prompt_sha256"])
    op.create_index(
        "ix_item_queue",
        "item",
        ["project_id", "purpose", "kind", sa.text("priority DESC"), "had_by", "rank", "id"],
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open"),
    )
    op.create_index("ix_item_texts", "item", ["project_id", "texts_sha256"])


def _membership() -> None:
    op.create_table(
        "membership",
        sa.Column("project_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("group_name", sa.String(length=100), nullable=True),
        sa.Column("phase", sa.String(length=20), nullable=False),
        sa.Column("topics", Json(), nullable=True),
        sa.Column("served", sa.Integer(), nullable=False),
        sa.Column("joined", Time(), nullable=False),
        sa.Column("paused", Time(), nullable=True),
        sa.Column("paused_why", sa.Text(), nullable=True),
        sa.Column("left", Time(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("project_id", "person_id"),
    )
    op.create_index("ix_membership_person_id", "membership", ["person_id"])


def _snapshot() -> None:
    op.create_table(
        "snapshot",
        sa.Column("id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("records", sa.String(length=20), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("filters", Json(), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("created_by", Id, nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_snapshot_project_id", "snapshot", ["project_id"])
    op.create_index("ix_snapshot_sha256", "snapshot", ["sha256"])


def _tally() -> None:
    op.create_table(
        "tally",
        sa.Column("project_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("judgements", sa.Integer(), nullable=False),
        sa.Column("milliseconds", Id, nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("project_id", "person_id", "day", "kind", "purpose"),
    )


def _token() -> None:
    op.create_table(
        "token",
        sa.Column("id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("expires", Time(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    op.create_index("ix_token_person_id", "token", ["person_id"])


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", Id, nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("item_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("refers_to", Id, nullable=True),
        sa.Column("at", Time(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("instructions", sa.Integer(), nullable=True),
        sa.Column("shown_order", Json(), nullable=True),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("content", Json(), nullable=True),
        sa.Column("salt", sa.String(length=32), nullable=True),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=100), nullable=False),
        sa.Column("redacted", Time(), nullable=True),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"]),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.ForeignKeyConstraint(["refers_to"], ["event.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("person_id", "idempotency_key"),
    )
    op.create_index("ix_event_item", "event", ["item_id", "id"])
    op.create_index("ix_event_person", "event", ["project_id", "person_id", "id"])
    op.create_index("ix_event_project", "event", ["project_id", "id"])


def _assignment() -> None:
    op.create_table(
        "assignment",
        sa.Column("id", Id, nullable=False),
        sa.Column("token", sa.String(length=40), nullable=False),
        sa.Column("project_id", Id, nullable=False),
        sa.Column("item_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("shown_order", Json(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("created", Time(), nullable=False),
        sa.Column("expires", Time(), nullable=False),
        sa.Column("draft", Json(), nullable=True),
        sa.Column("drafted", Time(), nullable=True),
        sa.Column("event_id", Id, nullable=True),
        sa.Column("corrects", Id, nullable=True),
        sa.ForeignKeyConstraint(["corrects"], ["event.id"]),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"]),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"]),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("item_id", "person_id"),
        sa.UniqueConstraint("token"),
    )
    op.create_index("ix_assignment_event", "assignment", ["event_id"])
    op.create_index(
        "ix_assignment_live",
        "assignment",
        ["project_id", "expires"],
        sqlite_where=sa.text("state = 'live'"),
        postgresql_where=sa.text("state = 'live'"),
    )
    op.create_index("ix_assignment_person", "assignment", ["project_id", "person_id", "state", "expires"])


def _demonstration_rating() -> None:
    op.create_table(
        "demonstration_rating",
        sa.Column("event_id", Id, nullable=False),
        sa.Column("person_id", Id, nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("at", Time(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"]),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"]),
        sa.PrimaryKeyConstraint("event_id", "person_id"),
    )


def _snapshot_event() -> None:
    op.create_table(
        "snapshot_event",
        sa.Column("snapshot_id", Id, nullable=False),
        sa.Column("event_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"]),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"]),
        sa.PrimaryKeyConstraint("snapshot_id", "event_id"),
    )
    op.create_index("ix_snapshot_event_event_id", "snapshot_event", ["event_id"])
