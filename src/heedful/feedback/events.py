"""Judgements as append-only events in a chain of hashes.

    content_sha256 = sha256(salt + content)
    hash           = sha256(previous hash of the project + everything else of the event + content_sha256)

Redaction takes content and salt away; nobody can then try out what the content was, and the chain still fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from heedful.feedback.schema import Event, EventKind, Item, Project


def append(
    db: Session,
    project: Project,
    item: Item,
    person_id: int,
    kind: EventKind,
    content: dict[str, Any],
    now: datetime,
    *,
    idempotency_key: str,
    order: list[int] | None = None,
    seconds: float | None = None,
    refers_to: int | None = None,
) -> Event:
    """Add an event to the chain of a locked project."""
    raise NotImplementedError


def verify(db: Session, project_id: int) -> int:
    """Recompute the chain; returns its length. Raises UserError naming the first event that does not fit."""
    raise NotImplementedError


@dataclass(frozen=True)
class Told:
    """One event in an item's history, for a lead: who, what, when."""

    event: Event
    labeler: str
    group: str | None
    stands: bool


def of_item(db: Session, item_id: int) -> list[Told]:
    """All that happened to an item, the oldest first."""
    raise NotImplementedError


def redact(db: Session, project_id: int, event_id: int, why: str, now: datetime, *, by: int) -> None:
    """Take the content of one event out for good; the item waits for another judgement. Logged."""
    raise NotImplementedError


def delete_person(db: Session, person_id: int, now: datetime, *, by: int | None) -> list[str]:
    """Take out all that one person wrote and was: account, secrets, drafts, consent, and the contents of her events.

    Returns the paths of snapshots that hold her work: frozen files are the lead's to delete. Logged.
    """
    raise NotImplementedError
