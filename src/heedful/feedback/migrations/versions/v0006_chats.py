"""Conversations of people with served models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import IdColumn, JsonColumn, Time

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "chat",
        sa.Column("id", IdColumn, primary_key=True),
        sa.Column("ref", sa.String(24), nullable=False, unique=True),
        sa.Column("person_id", IdColumn, sa.ForeignKey("person.id"), nullable=False),
        sa.Column("title", JsonColumn, nullable=False),
        sa.Column("settings", JsonColumn, nullable=False),
        sa.Column("tip", IdColumn),
        sa.Column("created", Time, nullable=False),
        sa.Column("updated", Time, nullable=False),
    )
    op.create_index("ix_chat_person", "chat", ["person_id", "updated"])
    op.create_table(
        "turn",
        sa.Column("id", IdColumn, primary_key=True),
        sa.Column("chat_id", IdColumn, sa.ForeignKey("chat.id"), nullable=False),
        sa.Column("parent_id", IdColumn, sa.ForeignKey("turn.id")),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("text", JsonColumn, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("note", JsonColumn),
        sa.Column("model", sa.String(200)),
        sa.Column("settings", JsonColumn),
        sa.Column("exchange", sa.String(100)),
        sa.Column("pair", sa.String(24)),
        sa.Column("place", sa.Integer),
        sa.Column("verdict", JsonColumn),
        sa.Column("thumb", JsonColumn),
        sa.Column("edit", JsonColumn),
        sa.Column("key", sa.String(100)),
        sa.Column("created", Time, nullable=False),
        sa.UniqueConstraint("chat_id", "key"),
    )
    op.create_index("ix_turn_chat", "turn", ["chat_id", "id"])
    op.create_index("ix_turn_parent", "turn", ["parent_id"])
