"""Tables of what users send to a served model, and of its curation."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import IdColumn, JsonColumn, Time

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "served_user",
        sa.Column("id", IdColumn, primary_key=True),
        _link("person_id", "person.id"),
        _column("name", sa.String(200)),
        sa.Column("split", sa.String(10)),
        _column("since", Time),
        sa.UniqueConstraint("person_id", "name"),
    )
    op.create_table(
        "exchange",
        sa.Column("id", sa.String(100), primary_key=True),
        _link("user_id", "served_user.id"),
        sa.Column("key_id", sa.Integer),
        _column("consent", sa.String(100)),
        _column("model", sa.String(200)),
        _column("upstream", sa.Boolean),
        _column("prompt", JsonColumn),
        _column("answers", JsonColumn),
        _column("finish", JsonColumn),
        _column("settings", JsonColumn),
        _column("started", Time),
        _column("seconds", sa.Float),
        sa.Column("prefix", sa.String(100)),
    )
    for column in ("user_id", "started", "prefix"):
        op.create_index(f"ix_exchange_{column}", "exchange", [column])
    op.create_table(
        "origin",
        _link("item_id", "item.id", primary_key=True),
        _link("user_id", "served_user.id"),
        sa.Column("exchange_id", sa.String(100)),
        _column("answer", sa.Integer),
    )
    op.create_table(
        "decision",
        sa.Column("id", IdColumn, primary_key=True),
        _link("project_id", "project.id"),
        _column("exchange_id", sa.String(100), sa.ForeignKey("exchange.id")),
        _link("user_id", "served_user.id"),
        _column("step", sa.String(10)),
        _column("outcome", sa.String(40)),
        _column("drops", sa.Boolean),
        _column("why", sa.Text),
        sa.Column("result", JsonColumn),
        _column("at", Time),
        sa.Column("reversed", Time),
        sa.Column("reversed_by", IdColumn, sa.ForeignKey("person.id")),
        sa.UniqueConstraint("project_id", "exchange_id", "step"),
    )
    for table in ("origin", "decision"):
        for column in ("user_id", "exchange_id"):
            op.create_index(f"ix_{table}_{column}", table, [column])


def _column(name: str, kind: Any, *more: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *more, nullable=False)


def _link(name: str, to: str, **options: Any) -> sa.Column[int]:
    return sa.Column(name, IdColumn, sa.ForeignKey(to), **{"nullable": False, **options})
