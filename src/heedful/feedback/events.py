"""Judgements as append-only events in a chain of hashes.

    content_sha256 = sha256(salt + content)
    hash           = sha256(previous hash of the project + everything else of the event + content_sha256)

Redaction removes content and salt. The chain still fits, and without the salt nobody can guess the content.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from heedful.config import UserError
from heedful.feedback import assignment, chats, derive, names, people, projects
from heedful.feedback.columns import canonical
from heedful.feedback.schema import (
    Assignment,
    Audit,
    Consent,
    DemonstrationRating,
    Event,
    EventKind,
    FrozenSnapshot,
    Invitation,
    Item,
    Membership,
    Person,
    Project,
    SnapshotEvent,
    Tally,
    Token,
)

BATCH = 1000
HASHED = (
    "project_id", "kind", "item_id", "person_id", "refers_to", "seconds", "instructions", "order", "payload_sha256",
    "content_sha256", "idempotency_key",
)  # fmt: skip
LINK = (*HASHED, "id", "when", "content", "salt", "redacted", "previous", "hash")


@dataclass(frozen=True)
class HistoryEntry:
    """One event in the history of an item, for a lead: who did what, and when."""

    event: Event
    labeler: str
    group: str | None
    stands: bool


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
    instructions: int | None = None,
) -> Event:
    """Add an event to the chain of a locked project. `instructions`: version of the guide. None: the current one."""
    salt = secrets.token_hex(16)
    event = Event(
        project_id=project.id,
        kind=kind,
        item_id=item.id,
        person_id=person_id,
        refers_to=refers_to,
        when=now.astimezone(UTC),
        seconds=seconds,
        instructions=instructions or projects.version(db, project.id, "guide"),
        order=order,
        payload_sha256=item.payload_sha256,
        content=content,
        salt=salt,
        content_sha256=_sha256(salt, canonical(content)),
        previous=project.head,
        idempotency_key=idempotency_key,
    )
    event.hash = project.head = _hash(event)
    db.add(event)
    db.flush()
    return event


def verify(db: Session, project_id: int) -> int:
    """Recompute a project's chain and return its length. Raises UserError naming the first event that does not fit."""
    project = db.get_one(Project, project_id)
    previous, length = "", 0
    chosen = (
        sa.select(*(getattr(Event, name) for name in LINK)).where(Event.project_id == project_id).order_by(Event.id)
    )
    with closing(db.execute(chosen.execution_options(yield_per=BATCH))) as chain:
        for event in chain:
            whole = event.content is not None and event.salt is not None
            found = _sha256(event.salt or "", canonical(event.content)) if whole else event.content_sha256
            fits = found == event.content_sha256 and (whole or event.redacted is not None)
            if not fits or event.previous != previous or event.hash != _hash(event):
                raise UserError(
                    f"project {project.name}, event {event.id}: does not fit its hash. It was changed, or an event"
                    " before it is missing"
                )
            previous, length = event.hash, length + 1
    if project.head != previous:
        raise UserError(f"project {project.name}: the newest events are missing. The chain ends before its head")
    return length


def verify_all(db: Session) -> dict[str, int]:
    """Recompute the chain of every project: their lengths by name. Raises UserError as `verify` does."""
    return {project.name: verify(db, project.id) for project in projects.listing(db)}


def of_item(db: Session, item_id: int) -> list[HistoryEntry]:
    """The history of an item, the oldest event first."""
    chosen = (
        sa.select(Event, Person.name, Membership.group, Assignment.id)
        .join(Person, Person.id == Event.person_id)
        .outerjoin(
            Membership, sa.and_(Membership.person_id == Event.person_id, Membership.project_id == Event.project_id)
        )
        .outerjoin(Assignment, Assignment.event_id == Event.id)
        .where(Event.item_id == item_id)
        .order_by(Event.id)
    )
    return [HistoryEntry(event, name, group, stands is not None) for event, name, group, stands in db.execute(chosen)]


def redact(db: Session, project_id: int, event_id: int, why: str, now: datetime, *, by: int) -> None:
    """Remove the content of one event for good. The item then waits for another judgement. Logged."""
    projects.lock(db, project_id)
    event = db.get(Event, event_id)
    if event is None or event.project_id != project_id:
        raise UserError(f"event {event_id}: not in this project")
    blank(db, event, now)
    people.audit(db, by, "redact", f"event {event_id}", {"why": why}, project_id, now=now)


def blank(db: Session, event: Event, now: datetime) -> None:
    """Remove content and salt of an event, and the draft that may repeat them. A judgement then no longer counts."""
    if event.redacted is None:
        event.content = event.salt = None
        event.redacted = now
    item = db.get_one(Item, event.item_id)
    chosen = sa.select(Assignment).where(Assignment.item_id == item.id, Assignment.person_id == event.person_id)
    given = db.scalar(chosen)
    if given is None:
        return
    given.draft = None
    if event.kind == "judgement" and given.event_id == event.id:
        given.event_id, given.state, given.expires = None, "leased", now
        derive.tally(db, event, item, -1)
    assignment.refresh(db, item)


def check_deletable(db: Session, person_id: int) -> Person:
    """The person. UserError if they are deleted already or lead a project alone."""
    person = db.get(Person, person_id)
    if person is None or person.deleted is not None:
        raise UserError(f"person {person_id}: does not exist, or is deleted already")
    for member in people.memberships(db, person_id, past=True):
        projects.lock(db, member.project_id)
        leads = [other for other, _ in people.members(db, member.project_id) if other.role == "lead" and not other.left]
        if [lead.person_id for lead in leads] == [person_id]:
            raise UserError(f"{person.name}: leads a project alone. Make another member a lead first")
    return person


def delete_person(db: Session, person_id: int, now: datetime, *, by: int | None) -> list[str]:
    """Delete a person's data: account, secrets, drafts, consent, conversations, contents of their events. Logged.

    Returns the paths of snapshots that hold their work. A lead has to delete those files.
    """
    person = check_deletable(db, person_id)
    holds = sa.select(FrozenSnapshot.path).join(SnapshotEvent).join(Event).where(Event.person_id == person_id)
    paths = sorted(set(db.scalars(holds)))
    deleted = f"{names.DELETED}{person_id}"
    theirs = sa.select(Event.id).where(Event.person_id == person_id)
    db.execute(sa.delete(DemonstrationRating).where(DemonstrationRating.event_id.in_(theirs)))
    gone = {"content": None, "salt": None, "redacted": now}
    work = aliased(Event)
    about = sa.and_(
        Event.kind == "sent_back", Event.refers_to.in_(sa.select(work.id).where(work.person_id == person_id))
    )  # notes of leads about their work
    blanked = sa.update(Event).where(sa.or_(Event.person_id == person_id, about), Event.redacted.is_(None)).values(gone)
    db.execute(blanked.execution_options(synchronize_session=False))
    judged = sa.select(Assignment.item_id).where(Assignment.person_id == person_id, Assignment.state == "done")
    items = list(db.scalars(judged))
    released = {"state": "leased", "expires": now, "event_id": None, "draft": None}
    kept = sa.update(Assignment).where(Assignment.person_id == person_id, Assignment.state != "skipped")
    db.execute(kept.values(released))
    db.expire_all()
    for item_id in items:
        assignment.refresh(db, db.get_one(Item, item_id))
    chats.delete_all(db, person_id)
    for table in (Tally, Consent, Token):
        db.execute(sa.delete(table).where(table.person_id == person_id))
    db.execute(sa.update(Invitation).where(Invitation.used_by == person_id).values(note=None, group=None))
    member_of = sa.update(Membership).where(Membership.person_id == person_id)
    db.execute(member_of.values(group=None, topics=None, paused_why=None, left=sa.func.coalesce(Membership.left, now)))
    _forget_words(db, person, deleted)
    person.name, person.password_hash, person.admin, person.deleted = deleted, None, False, now
    people.audit(db, by, "delete person", f"person {person_id}", {"snapshots": paths}, now=now)
    return paths


def _forget_words(db: Session, person: Person, deleted: str) -> None:
    """Remove what the log and the filters of snapshots say about a person, but for what was done and when."""
    invitations = db.scalars(sa.select(Invitation.id).where(Invitation.used_by == person.id))
    about = [f"person {person.id}", *(f"invitation {number}" for number in invitations)]
    for entry in db.scalars(sa.select(Audit).where(Audit.target.in_(about))):
        entry.detail = {key: value for key, value in entry.detail.items() if key not in ("group", "why")}
    for frozen in db.scalars(sa.select(FrozenSnapshot)):
        if person.name in frozen.filters.get("labelers", ()):
            named = [deleted if name == person.name else name for name in frozen.filters["labelers"]]
            frozen.filters = frozen.filters | {"labelers": named}


def _hash(event: Any) -> str:
    """The hash of an event, or of its row."""
    facts = {name: getattr(event, name) for name in HASHED} | {"when": event.when.isoformat()}
    return _sha256(event.previous, canonical(facts))


def _sha256(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode("ascii")).hexdigest()
