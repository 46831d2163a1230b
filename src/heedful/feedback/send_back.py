"""A lead sends a judgement back to its labeler, with a note. Nothing is lost: the judgement stays, and is replaced."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import assignment, derive, events, judgements, people, projects
from heedful.feedback.schema import WORK, Assignment, Event, Item, may_have

WAITS = timedelta(days=7)
"""How long the item is kept for its labeler. From the moment when they see it, an ordinary lease runs."""


def send_back(db: Session, project_id: int, event_id: int, note: str, now: datetime, *, by: int) -> int:
    """Send a judgement back, and return the new event. The judgement no longer counts.

    Its labeler gets the item next, with `note` and the old answer as a draft. UserError if it cannot be done again.
    """
    project = projects.lock(db, project_id)
    judged = db.get(Event, event_id)
    if judged is None or judged.project_id != project_id or judged.kind != "judgement":
        raise UserError(f"event {event_id}: no judgement of this project")
    given = db.scalar(sa.select(Assignment).where(Assignment.event_id == event_id))
    if given is None or judged.content is None:
        raise UserError(f"event {event_id}: does not count any more, so there is nothing to send back")
    item = assignment.item_of(db, given)
    _check(db, item, judged)
    sent = events.append(
        db, project, item, by, "sent_back", {"note": note}, now,
        idempotency_key=f"sent back {secrets.token_hex(16)}", refers_to=event_id,
    )  # fmt: skip
    given.event_id, given.state, given.corrects, given.expires = None, "leased", event_id, now + WAITS
    given.draft, given.drafted = judgements.by_place(item.kind, judged.content, given.order), now
    derive.tally(db, judged, item, -1)
    assignment.refresh(db, item)
    people.audit(db, by, "send back", f"event {event_id}", project_id=project_id, now=now)
    return sent.id


def _check(db: Session, item: Item, judged: Event) -> None:
    where = f"event {judged.id}"
    if item.purpose not in WORK:
        raise UserError(f"{where}: the item has a known answer. Only training and evaluation items are sent back")
    if item.held is not None:
        raise UserError(f"{where}: the item is held back. Release it first")
    member = people.membership(db, item.project_id, judged.person_id)
    if member is None or not may_have(member.role, item.purpose):
        raise UserError(f"{where}: its labeler no longer gets such items. Hold the item back, or delete the content")
