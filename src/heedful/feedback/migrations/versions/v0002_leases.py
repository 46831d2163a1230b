"""Leases expire by the clock: states `live` and `lapsed` become `leased`, and the caches of items count no leases."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import Time

revision = "0002"
down_revision = "0001"

assignment = sa.table(
    "assignment",
    sa.column("item_id"), sa.column("person_id"), sa.column("state"), sa.column("expires", Time()),
)  # fmt: skip
item = sa.table(
    "item",
    sa.column("id"), sa.column("wanted"), sa.column("taken"), sa.column("had_by"), sa.column("open", sa.Boolean()),
    sa.column("held"), sa.column("redacted"),
)  # fmt: skip


def upgrade() -> None:
    op.drop_index("ix_assignment_live", "assignment")
    connection = op.get_bind()
    at_work = sa.select(assignment.c.item_id).where(assignment.c.state == "live").distinct()
    items = list(connection.execute(sa.select(item).where(item.c.id.in_(at_work))))
    over = assignment.c.state == "lapsed"
    now = datetime.now(UTC)
    connection.execute(sa.update(assignment).where(over, assignment.c.expires > now).values(expires=now))
    connection.execute(sa.update(assignment).where(assignment.c.state.in_(("live", "lapsed"))).values(state="leased"))
    for row in items:
        chosen = sa.select(assignment.c.person_id, assignment.c.state).where(
            assignment.c.item_id == row.id, assignment.c.state.in_(("done", "skipped"))
        )
        had = {row.person_id: row.state for row in connection.execute(chosen.order_by(assignment.c.person_id))}
        taken = sum(state == "done" for state in had.values())
        waits = row.wanted is None or taken < row.wanted
        caches = {
            "taken": taken,
            "had_by": f"|{'|'.join(map(str, had))}|" if had and row.wanted is not None else "",
            "open": row.held is None and row.redacted is None and waits,
        }
        connection.execute(sa.update(item).where(item.c.id == row.id).values(caches))
    op.create_index(
        "ix_assignment_leased",
        "assignment",
        ["project_id", "expires"],
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
