"""From standing judgements to frozen files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from heedful.config import Config, Share
from heedful.data.records import Record
from heedful.feedback.schema import FrozenSnapshot, Purpose, Role

Records = Literal["demonstration", "comparison", "choice", "prompt"]


class Filters(Config):
    """Which judgements a snapshot holds; empty = all."""

    records: Records
    """Demonstrations, comparisons (rankings), choices, or prompts that labelers wrote."""
    since: datetime | None = None
    until: datetime | None = None
    labelers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ("labeler", "lead")
    """Held-out labelers' work is an evaluation file of its own: `roles=("held_out",)`."""
    sources: tuple[str, ...] = ()
    purposes: tuple[Purpose, ...] = ("train",)
    """Gold, attention and screening items are left out unless named."""
    least_agreement: Share | None = None
    """Of items with several judgements, only those whose mean pairwise agreement is at least this."""
    least_judgements: int = 1
    """Only items that so many labelers judged."""


def records(db: Session, project_id: int, filters: Filters) -> list[tuple[int, Record]]:
    """(event, record) of each judgement that passes, in the order of events."""
    raise NotImplementedError


def freeze(
    db: Session, project_id: int, directory: str | Path, filters: Filters, now: datetime, *, by: int | None
) -> FrozenSnapshot:
    """Write them as a snapshot (`data.snapshots`) and remember which events it holds.

    UserError where nothing passes the filters or the directory holds something else.
    """
    raise NotImplementedError


def listing(db: Session, project_id: int) -> list[FrozenSnapshot]:
    """The newest first."""
    raise NotImplementedError
