"""Items are found by the text of their prompt, their use case, flags and disagreement."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from heedful.feedback import differing, search
from heedful.feedback.columns import JsonColumn, printable
from heedful.feedback.readings import ranking

revision = "0007"
down_revision = "0006"

BATCH = 500
item = sa.table(
    "item",
    sa.column("id"), sa.column("kind"), sa.column("payload", JsonColumn()), sa.column("use_case"), sa.column("flags"),
    sa.column("disagreement"), sa.column("searched"),
)  # fmt: skip
assignment = sa.table("assignment", sa.column("item_id"), sa.column("event_id"), sa.column("state"))
event = sa.table("event", sa.column("id"), sa.column("content", JsonColumn()))


def upgrade() -> None:
    op.add_column("item", sa.Column("use_case", sa.String(200)))
    op.add_column("item", sa.Column("flags", sa.Text, nullable=False, server_default=""))
    op.add_column("item", sa.Column("disagreement", sa.Float))
    op.add_column("item", sa.Column("searched", sa.Text, nullable=False, server_default=""))
    connection, last = op.get_bind(), 0
    chosen = sa.select(item.c.id, item.c.kind, item.c.payload).order_by(item.c.id).limit(BATCH)
    while rows := list(connection.execute(chosen.where(item.c.id > last))):
        last = rows[-1].id
        said = _said(connection, [row.id for row in rows])
        for row in rows:
            values = _values(row, said.get(row.id, []))
            connection.execute(sa.update(item).where(item.c.id == row.id).values(values))
    op.create_index("ix_item_source", "item", ["project_id", "source"])
    op.create_index("ix_item_use_case", "item", ["project_id", "use_case"])


def _said(connection: sa.Connection, ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    """The judgements that count of each item."""
    chosen = (
        sa.select(assignment.c.item_id, event.c.content)
        .join_from(assignment, event, event.c.id == assignment.c.event_id)
        .where(assignment.c.item_id.in_(ids), assignment.c.state == "done", event.c.content.is_not(None))
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(chosen.order_by(event.c.id)):
        found.setdefault(row.item_id, []).append(row.content)
    return found


def _values(row: Any, said: list[dict[str, Any]]) -> dict[str, Any]:
    use_case = row.payload.get("use_case")
    values: dict[str, Any] = {
        "searched": search.searched(row.payload),
        "use_case": printable(use_case) if use_case else None,
    }
    if row.kind in ("ranking", "choice"):
        named = "|".join(differing.flags(said))
        values |= {
            "flags": f"|{named}|" if named else "",
            "disagreement": differing.disagreement([ranking(row.kind, content) for content in said]),
        }
    return values
