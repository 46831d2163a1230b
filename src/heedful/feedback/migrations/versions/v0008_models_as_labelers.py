"""Accounts with which models label, and assignments that count in no cache because a model has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("person", sa.Column("model", sa.String(500)))
    op.add_column("assignment", sa.Column("aside", sa.Boolean, nullable=False, server_default=sa.false()))
