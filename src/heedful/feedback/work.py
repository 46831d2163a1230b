"""A labeler's work: the next task, its draft, its submission, and the way back.

    task = next_task(db, project_id, person_id, now)       a Task, or Nothing with its reason
    done = submit(db, person_id, task.lease, answer, ...)

A lease gives an item to a labeler for some minutes. After that the item may go to another labeler, and its draft waits
in case the item comes back. Every function that writes locks the project, so that a project has one queue.
"""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from pydantic.dataclasses import dataclass as record
from sqlalchemy.orm import Session, undefer

from heedful.config import UserError
from heedful.data.records import Record
from heedful.feedback import assignment, derive, events, judgements, models, people, projects
from heedful.feedback.assignment import Lease
from heedful.feedback.columns import printable
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.quality import gold
from heedful.feedback.readings import ranking
from heedful.feedback.schema import (
    SHARED,
    Assignment,
    Event,
    EventKind,
    Item,
    Kind,
    Membership,
    Project,
    State,
    Tally,
    may_have,
)  # fmt: skip
from heedful.feedback.tasks import SHOWN, Hidden, Nothing, Refused, Task, Why

__all__ = [
    "Done", "Feedback", "Nothing", "OwnProgress", "Past", "Refused", "Task", "Why", "history", "mark_personal",
    "next_task", "progress", "save_draft", "skip", "submit", "task_of", "undo",
]  # fmt: skip

BARRED: dict[Why, str] = {
    "archived": "this project is closed. What you submitted stays as it is",
    "no_role": "your role in this project includes no work. What you submitted stays as it is",
    "paused": "your account is paused. What you submitted stays as it is",
    "consent": "the terms have changed. Read them and agree first",
}


@record(frozen=True, config=SHOWN)
class Feedback:
    """What a gold, attention or practice item answers back, in the labeler's places."""

    given: dict[str, Any]
    expected: dict[str, Any]
    explanation: str | None
    share: float | None
    """Share of the pairs ordered by the known answer that the labeler ordered the same way. None for texts."""
    attention: bool = False
    """The item only asks whether somebody is reading. It answers back if the answer was wrong."""


@record(frozen=True, config=SHOWN)
class Done:
    """An acknowledged submission."""

    event: int
    ref: str
    repeated: bool
    """The store had it already under this idempotency key."""
    feedback: Feedback | None


@record(frozen=True, config=SHOWN)
class Past:
    """One entry of a labeler's own history."""

    event: int
    kind: Kind
    event_kind: EventKind
    when: datetime
    ref: str
    stands: bool
    """It counts: it was not undone, corrected or redacted."""
    payload: Hidden[Record | None]
    answer: dict[str, Any] | None
    """In places. None if it was redacted."""
    order: Hidden[tuple[int, ...]]
    seconds: float | None
    sent_back: str | None = None
    """What a lead wrote when they sent it back. null: nobody did."""


@record(frozen=True, config=SHOWN)
class OwnProgress:
    """`today` starts at midnight UTC."""

    today: int
    total: int
    seconds_today: float
    by_kind: dict[Kind, int]
    by_day: dict[date, int]


def next_task(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    *,
    kind: Kind | None = None,
    besides: str | None = None,
) -> Task | Nothing:
    """A labeler's unfinished task, else a new one.

    `kind` limits it to one kind of work. `besides` names the lease that the labeler is busy with: the answer is then
    the task after it, so that the page can have it ready.
    """
    project = projects.lock(db, project_id)
    settings = ProjectSettings.model_validate(project.settings)
    member = people.membership(db, project_id, person_id)
    if (barred := _barred(project, member)) is not None:
        return Nothing(barred)
    assert member is not None
    is_model = models.is_model(db, person_id)
    if not is_model and not people.has_consented(db, project_id, person_id):
        return Nothing("consent")
    kinds = settings.kinds if kind is None else tuple(each for each in settings.kinds if each == kind)
    lease = assignment.at_hand(db, member, kinds, besides, settings, now)
    if lease is None:
        choose = models.choose if is_model else assignment.choose
        item = choose(db, member, kinds, settings, now)
        if item is None:
            return Nothing("empty") if is_model else _nothing(db, member, kinds, now)
        lease = assignment.give(db, member, item, settings, now, aside=is_model)
    lease.assignment.expires = assignment.end(settings, now)
    return lease.task(db)


def task_of(db: Session, person_id: int, lease: str, now: datetime) -> Task:
    """The task of a lease. An expired one is renewed if its item is free. Raises Refused."""
    return assignment.resume(db, person_id, lease, now)[0].task(db)


def save_draft(db: Session, person_id: int, lease: str, draft: Any, now: datetime) -> datetime:
    """Keep a draft (any JSON) and renew the lease. Returns when it expires. Raises Refused."""
    held, settings = assignment.resume(db, person_id, lease, now)
    held.assignment.draft, held.assignment.drafted = draft, now
    held.assignment.expires = assignment.end(settings, now)
    return held.assignment.expires


def submit(
    db: Session,
    person_id: int,
    lease: str,
    answer: dict[str, Any],
    now: datetime,
    *,
    idempotency_key: str,
    seconds: float | None = None,
) -> Done:
    """Store a judgement (`judgements.py`, in places, not indices). Raises Refused.

    The same key again changes nothing and answers the same.
    """
    project = assignment.lock(db, person_id, lease)
    repeated = _repeated(db, person_id, lease, idempotency_key, "judgement")
    if repeated is not None:
        event, item = repeated
        return Done(event.id, item.ref, True, _feedback(db, event, item))
    held, settings = assignment.resume(db, person_id, lease, now, project)
    given, item = held.assignment, held.item
    if held.member.paused is not None:
        raise Refused("paused", "your account is paused. The draft is kept")
    try:
        checked = judgements.check(
            item.kind, answer, held.payload,
            rate_first=settings.rate_first, chars=settings.demonstration_chars, rubric=settings.rubric,
        )  # fmt: skip
    except UserError as error:
        raise Refused("invalid", str(error)) from None
    content = judgements.by_index(item.kind, checked.model_dump(mode="json", exclude_none=True), given.order)
    event = events.append(
        db, held.project, item, person_id, "judgement", content, now,
        idempotency_key=_key(idempotency_key), order=given.order, seconds=_sane(seconds), refers_to=given.corrects,
        instructions=given.instructions,
    )  # fmt: skip
    _finish(db, held, event, "done")
    derive.tally(db, event, item, 1)
    return Done(event.id, item.ref, False, _feedback(db, event, item))


def skip(
    db: Session,
    person_id: int,
    lease: str,
    reason: str,
    now: datetime,
    *,
    idempotency_key: str,
    note: str | None = None,
) -> int:
    """Leave an item to others for good. Returns the event. Raises Refused.

    An item that `most_skips` labelers skipped is put on hold until a lead looks at it.
    """
    project = assignment.lock(db, person_id, lease)
    repeated = _repeated(db, person_id, lease, idempotency_key, "skip")
    if repeated is not None:
        return repeated[0].id
    held, settings = assignment.resume(db, person_id, lease, now, project)
    content = {"reason": reason, **({"note": note} if note else {})}
    event = events.append(
        db, held.project, held.item, person_id, "skip", content, now,
        idempotency_key=_key(idempotency_key), order=held.assignment.order, instructions=held.assignment.instructions,
    )  # fmt: skip
    _finish(db, held, event, "skipped")
    skipped = sa.select(sa.func.count()).where(Assignment.item_id == held.item.id, Assignment.state == "skipped")
    skipped = skipped.where(Assignment.aside == sa.false())
    if held.item.held is None and (db.scalar(skipped) or 0) >= settings.most_skips:
        held.item.held = f"skipped by {settings.most_skips}"
        assignment.refresh(db, held.item)
    return event.id


def mark_personal(
    db: Session, person_id: int, lease: str, marked: bool, now: datetime, *, note: str | None = None
) -> None:
    """Report personal data in the item, or take the report back. The item is on hold until a lead looks at it.

    The lease goes on.
    """
    held, _ = assignment.resume(db, person_id, lease, now)
    item, reported = held.item, assignment.reported_by(person_id)
    if marked == (item.held == reported):
        return
    content = {"marked": marked, **({"note": note} if note else {})}
    key = f"personal {secrets.token_hex(16)}"
    events.append(db, held.project, item, person_id, "personal", content, now, idempotency_key=key)
    item.held = (item.held or reported) if marked else None
    assignment.refresh(db, item)


def undo(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    event_id: int | None = None,
    *,
    idempotency_key: str | None = None,
) -> Task:
    """Take back the labeler's last submission or skip, or the given one, by a new event. Raises Refused.

    Returns the task in the same order, with the old answer as its draft. The next submission refers to the undone one.
    An item that has answered back cannot be done again. A labeler who gets no work could not correct the answer.
    """
    project = projects.lock(db, project_id)
    settings = ProjectSettings.model_validate(project.settings)
    member = people.membership(db, project_id, person_id)
    key = _key(idempotency_key) if idempotency_key is not None else f"undo {secrets.token_hex(16)}"
    before = db.scalar(sa.select(Event).where(Event.person_id == person_id, Event.idempotency_key == key))
    if before is not None and before.refers_to is not None:
        return task_of(db, person_id, _token(db, before.item_id, person_id), now)
    if (barred := _barred(project, member)) is not None:
        raise Refused(barred, BARRED[barred])
    if not people.has_consented(db, project_id, person_id):
        raise Refused("consent", BARRED["consent"])
    assert member is not None
    chosen = sa.select(Event, Assignment).join(Assignment, Assignment.event_id == Event.id)
    chosen = chosen.where(Event.project_id == project_id, Event.person_id == person_id)
    if event_id is not None:
        chosen = chosen.where(Event.id == event_id)
    found = db.execute(chosen.order_by(Event.id.desc()).limit(1)).first()
    if found is None:
        raise Refused("nothing_to_undo", "there is nothing to undo" if event_id is None else "that is undone already")
    event, given = found
    item = assignment.item_of(db, given)
    gone = item.redacted is not None or (event.kind == "skip" and not assignment.is_free(db, item, person_id, now))
    if gone or not may_have(member.role, item.purpose):
        raise Refused("lost", "this item is no longer available")
    if event.kind == "judgement" and _feedback(db, event, item) is not None:
        raise Refused("nothing_to_undo", "this item has answered already. It cannot be done again")
    events.append(db, project, item, person_id, "undo", {}, now, idempotency_key=key, refers_to=event.id)
    given.event_id, given.state, given.expires = None, "leased", assignment.end(settings, now)
    if event.kind == "judgement":
        given.corrects = event.id
        given.draft = judgements.by_place(item.kind, event.content or {}, given.order)
        given.drafted = now  # newer than what any browser kept
        derive.tally(db, event, item, -1)
    assignment.refresh(db, item)
    return Lease(project, member, item, given).task(db)


def history(db: Session, project_id: int, person_id: int, *, before: int | None = None, limit: int = 50) -> list[Past]:
    """A labeler's own judgements and skips, the newest first. `before`: an event's id, for the next page."""
    chosen = (
        sa.select(Event, Item, Assignment.id)
        .join(Item, Item.id == Event.item_id)
        .outerjoin(Assignment, Assignment.event_id == Event.id)
        .where(Event.project_id == project_id, Event.person_id == person_id, Event.kind.in_(("judgement", "skip")))
        .options(undefer(Item.payload))
    )
    if before is not None:
        chosen = chosen.where(Event.id < before)
    found = []
    rows = list(db.execute(chosen.order_by(Event.id.desc()).limit(limit)))
    notes = _sent_back(db, [item.id for _, item, _ in rows])
    for event, item, stands in rows:
        payload = None if item.redacted else judgements.PAYLOADS[item.kind].model_validate(item.payload)
        order = event.order or []
        answer = event.content
        if answer is not None and event.kind == "judgement":
            answer = judgements.by_place(item.kind, answer, order)
        found.append(
            Past(
                event.id, item.kind, event.kind, event.when, item.ref, stands is not None, payload, answer,
                tuple(order), event.seconds, notes.get(event.id),
            )
        )  # fmt: skip
    return found


def _sent_back(db: Session, items: list[int]) -> dict[int, str]:
    """What leads wrote about the judgements of these items that they sent back, by event."""
    chosen = sa.select(Event.refers_to, Event.content).where(Event.item_id.in_(items), Event.kind == "sent_back")
    return {event: (content or {}).get("note", "") for event, content in db.execute(chosen) if event is not None}


def progress(db: Session, project_id: int, person_id: int, now: datetime, *, days: int = 14) -> OwnProgress:
    """A labeler's own standing judgements. `by_day` of the last `days`."""
    rows = list(db.scalars(sa.select(Tally).where(Tally.project_id == project_id, Tally.person_id == person_id)))
    today = now.astimezone(UTC).date()
    by_kind: dict[Kind, int] = {}
    by_day: dict[Any, int] = {}
    for row in rows:
        by_kind[row.kind] = by_kind.get(row.kind, 0) + row.judgements
        if (today - row.day).days < days:
            by_day[row.day] = by_day.get(row.day, 0) + row.judgements
    return OwnProgress(
        today=by_day.get(today, 0),
        total=sum(by_kind.values()),
        seconds_today=sum(row.milliseconds for row in rows if row.day == today) / 1000,
        by_kind=by_kind,
        by_day=dict(sorted(by_day.items())),
    )


def _barred(project: Project, member: Membership | None) -> Why | None:
    """Why a person gets no work at all. None if they do."""
    if project.archived is not None:
        return "archived"
    if member is None or member.role == "reader":
        return "no_role"
    return "paused" if member.paused is not None else None


def _nothing(db: Session, member: Membership, kinds: tuple[Kind, ...], now: datetime) -> Nothing:
    if member.phase == "screening":
        return Nothing("screened")
    retry = assignment.next_end(db, member, kinds, now)
    return Nothing("in_other_hands" if retry is not None else "empty", retry)


def _finish(db: Session, lease: Lease, event: Event, state: State) -> None:
    """End a lease by the event that came of it."""
    given = lease.assignment
    given.state, given.event_id = state, event.id
    given.draft = given.drafted = given.corrects = None
    assignment.refresh(db, lease.item)


def _repeated(db: Session, person_id: int, lease: str, key: str, kind: str) -> tuple[Event, Item] | None:
    """The event and item of an earlier request with this key."""
    chosen = sa.select(Event, Item).join(Item, Item.id == Event.item_id)
    found = db.execute(chosen.where(Event.person_id == person_id, Event.idempotency_key == _key(key))).first()
    if found is None:
        return None
    event, item = found
    if event.kind != kind or _token(db, item.id, person_id) != lease:
        raise Refused("invalid", "this idempotency key belongs to another submission. Take a new one for each")
    return event, item


def _feedback(db: Session, event: Event, item: Item) -> Feedback | None:
    """What an item with a known answer tells its labeler, if it may."""
    if item.purpose not in SHARED or item.purpose == "screening" or event.content is None:
        return None
    if item.purpose != "practice" and not projects.settings(db, item.project_id).show_gold:
        return None
    attention = item.purpose == "attention"
    expected, order = item.gold or {}, event.order or []
    share = None
    if item.kind in ("ranking", "choice") and item.gold is not None:
        found = gold.answer(ranking(item.kind, event.content), ranking(item.kind, item.gold))
        share = found.right / found.pairs if found.pairs else None
    if attention and share == 1:
        return None
    return Feedback(
        given=judgements.by_place(item.kind, event.content, order),
        expected=judgements.by_place(item.kind, expected, order) if expected else {},
        explanation=item.explanation,
        share=share,
        attention=attention,
    )


def _token(db: Session, item_id: int, person_id: int) -> str:
    chosen = sa.select(Assignment.token).where(Assignment.item_id == item_id, Assignment.person_id == person_id)
    return db.scalar(chosen) or ""


def _key(key: str) -> str:
    if not 0 < len(key) <= 100:
        raise Refused("invalid", "idempotency key: give 1 to 100 characters, new for each submission")
    return printable(key)


def _sane(seconds: float | None) -> float | None:
    """None for a time that cannot be: a client's clock may have been set meanwhile."""
    return None if seconds is None or not 0 <= seconds < 1e6 else float(seconds)
