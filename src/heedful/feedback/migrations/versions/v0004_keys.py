"""Keys for the models that a server answers with, and what was used by each on a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import IdColumn, Time

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", IdColumn, primary_key=True),
        sa.Column("person_id", IdColumn, sa.ForeignKey("person.id"), nullable=False, index=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("secret_hash", sa.String(64), unique=True),
        sa.Column("created", Time, nullable=False),
        sa.Column("suspended", Time),
        sa.Column("suspended_why", sa.String(200)),
        sa.Column("deleted", Time),
        sa.Column("consent", sa.String(100)),
        sa.Column("consented", Time),
        sa.Column("requests_a_minute", sa.Integer),
        sa.Column("tokens_a_day", IdColumn),
    )
    op.create_table(
        "api_use",
        sa.Column("key_id", IdColumn, sa.ForeignKey("api_key.id"), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("tokens", IdColumn, nullable=False),
    )
