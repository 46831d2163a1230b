"""An assignment knows the guide under which its labeler got the task, and settings keep to their bounds."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from heedful.feedback.columns import JsonColumn

revision = "0003"
down_revision = "0002"

SHARE = (0.0, 1.0)
NUMBER = (0, 100_000)
BOUNDS: dict[str, Any] = {
    "lease_minutes": (1, 43_200), "most_skips": (1, 100), "daily_goal": (0, 10_000),
    "screening": {"flags": SHARE, "rankings": SHARE, "demonstrations": (1.0, 7.0), "topics": (0, 200)},
    "alerts": {
        "least": NUMBER, "least_gold": NUMBER, "attention_missed": NUMBER, "words_per_minute": (1.0, 100_000.0),
        "position_share": SHARE, "tied_share": SHARE, "fast_share": SHARE, "straight_share": SHARE, "copied": SHARE,
        "gold": SHARE,
    },
}  # fmt: skip
CHARACTERS = (1, 1_000_000)
project = sa.table("project", sa.column("id"), sa.column("settings", JsonColumn()))


def upgrade() -> None:
    op.add_column("assignment", sa.Column("instructions", sa.Integer))
    connection = op.get_bind()
    for row in list(connection.execute(sa.select(project))):
        settings = _clamped(row.settings, BOUNDS)
        if "demonstration_chars" in settings:
            settings["demonstration_chars"] = sorted(
                _clamp(each, CHARACTERS) for each in settings["demonstration_chars"]
            )
        if settings != row.settings:
            connection.execute(sa.update(project).where(project.c.id == row.id).values(settings=settings))


def _clamped(settings: dict[str, Any], bounds: dict[str, Any]) -> dict[str, Any]:
    found = dict(settings)
    for name, bound in bounds.items():
        if name in found:
            found[name] = _clamped(found[name], bound) if isinstance(bound, dict) else _clamp(found[name], bound)
    return found


def _clamp(value: Any, bounds: tuple[float, float]) -> Any:
    return min(max(value, bounds[0]), bounds[1])
