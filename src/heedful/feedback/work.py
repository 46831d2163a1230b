"""A labeler's work: the next task, its draft, its submission, and the way back.

    task = next_task(db, project_id, person_id, now)       a Task, or Nothing with its reason
    done = submit(db, person_id, task.lease, answer, ...)

A lease gives an item to a labeler for some minutes; after that the item may go to somebody else, and its draft waits in
case it comes back. All of these but the reading ones lock the project, so they see one queue.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.config import UserError
from heedful.feedback import derive, events, judgements, leases, people, projects, queue
from heedful.feedback.columns import printable
from heedful.feedback.leases import Hers
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.quality import gold
from heedful.feedback.readings import ranking
from heedful.feedback.schema import SHARED, Assignment, Event, Item, Kind, Membership, Project, Tally
from heedful.feedback.tasks import Done, Feedback, Nothing, OwnProgress, Past, Refused, Task, Why

__all__ = [
    "Done", "Feedback", "Nothing", "OwnProgress", "Past", "Refused", "Task", "Why", "history", "mark_personal",
    "next_task", "progress", "save_draft", "skip", "submit", "task_of", "undo",
]  # fmt: skip

BARRED: dict[Why, str] = {
    "archived": "this project is closed; what you submitted stays as it is",
    "no_role": "your role in this project includes no work; what you submitted stays as it is",
    "paused": "your account is paused; what you submitted stays as it is",
}


def next_task(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    *,
    kind: Kind | None = None,
    besides: str | None = None,
) -> Task | Nothing:
    """What she shall do now: her unfinished task, else a new one.

    `kind` limits it to one kind of work. `besides`: the lease she is busy with; the answer is the task after it, so
    that it can be ready.
    """
    project = projects.lock(db, project_id)
    settings = ProjectSettings.model_validate(project.settings)
    member = people.membership(db, project_id, person_id)
    if (barred := _barred(project, member)) is not None:
        return Nothing(barred)
    assert member is not None
    if not people.has_consented(db, project_id, person_id):
        return Nothing("consent")
    leases.lapse(db, project_id, now)
    kinds = settings.kinds if kind is None else tuple(each for each in settings.kinds if each == kind)
    if besides is not None:
        leases.keep(db, member, besides, settings, now)
    hers = leases.held(db, member, kinds, besides)
    if hers is None:
        item = leases.returning(db, member, kinds) or leases.choose(db, member, kinds, settings)
        if item is None:
            return _nothing(db, member, kinds)
        hers = leases.give(db, member, item, settings, now)
    hers.assignment.expires = leases.end(settings, now)
    return _task(hers, settings)


def task_of(db: Session, person_id: int, lease: str, now: datetime) -> Task:
    """The task of her lease, also an expired one as long as the item is free. Raises Refused."""
    hers, settings = leases.resume(db, person_id, lease, now)
    return _task(hers, settings)


def save_draft(db: Session, person_id: int, lease: str, draft: Any, now: datetime) -> datetime:
    """Keep a draft (any JSON) and begin the lease anew; returns when it ends. Raises Refused."""
    hers, settings = leases.resume(db, person_id, lease, now)
    hers.assignment.draft, hers.assignment.drafted = draft, now
    hers.assignment.expires = leases.end(settings, now)
    return hers.assignment.expires


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
    """Take a judgement in (see `judgements.py`; places, not indices). Raises Refused.

    The same key again changes nothing and answers the same.
    """
    project = leases.lock(db, person_id, lease)
    repeated = _repeated(db, person_id, lease, idempotency_key, "judgement")
    if repeated is not None:
        event, item = repeated
        return Done(event.id, item.ref, True, _feedback(db, event, item))
    hers, settings = leases.resume(db, person_id, lease, now, project)
    assignment, item = hers.assignment, hers.item
    if hers.member.paused is not None:
        raise Refused("paused", "your account is paused; the draft is kept")
    try:
        checked = judgements.check(
            item.kind, answer, hers.payload,
            rate_first=settings.rate_first, chars=settings.demonstration_chars,
        )  # fmt: skip
    except UserError as error:
        raise Refused("invalid", str(error)) from None
    content = judgements.by_index(item.kind, checked.model_dump(mode="json", exclude_none=True), assignment.order)
    event = events.append(
        db, hers.project, item, person_id, "judgement", content, now,
        idempotency_key=_key(idempotency_key), order=assignment.order, seconds=_sane(seconds),
        refers_to=assignment.corrects,
    )  # fmt: skip
    _settle(db, hers, event, "done")
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
    """She will not get the item again, others may; returns the event. Raises Refused.

    An item that as many skipped as the project says is held for a lead.
    """
    project = leases.lock(db, person_id, lease)
    repeated = _repeated(db, person_id, lease, idempotency_key, "skip")
    if repeated is not None:
        return repeated[0].id
    hers, settings = leases.resume(db, person_id, lease, now, project)
    content = {"reason": reason, **({"note": note} if note else {})}
    event = events.append(
        db, hers.project, hers.item, person_id, "skip", content, now,
        idempotency_key=_key(idempotency_key), order=hers.assignment.order,
    )  # fmt: skip
    _settle(db, hers, event, "skipped")
    skipped = sa.select(sa.func.count()).where(Assignment.item_id == hers.item.id, Assignment.state == "skipped")
    if hers.item.held is None and (db.scalar(skipped) or 0) >= settings.most_skips:
        hers.item.held = f"skipped by {settings.most_skips}"
        queue.refresh(db, hers.item)
    return event.id


def mark_personal(
    db: Session, person_id: int, lease: str, marked: bool, now: datetime, *, note: str | None = None
) -> None:
    """Report personal data in the item (or take that back): it is held until a lead has looked. The lease goes on."""
    hers, _ = leases.resume(db, person_id, lease, now)
    reported = f"personal data, reported by {person_id}"
    if marked == (hers.item.held == reported):
        return
    content = {"marked": marked, **({"note": note} if note else {})}
    key = f"personal {secrets.token_hex(16)}"
    events.append(db, hers.project, hers.item, person_id, "personal", content, now, idempotency_key=key)
    if marked:
        hers.item.held = hers.item.held or reported
    else:
        hers.item.held = None
    queue.refresh(db, hers.item)


def undo(
    db: Session,
    project_id: int,
    person_id: int,
    now: datetime,
    event_id: int | None = None,
    *,
    idempotency_key: str | None = None,
) -> Task:
    """Take back her last submission or skip (or the given one of hers): a new event that points at it. Raises Refused.

    Returns its task, order as before, with what she had answered as its draft; what she submits now points at the old.
    An item that has answered back cannot be done again, and who gets no work could give no other answer.
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
    assert member is not None
    chosen = sa.select(Event, Assignment).join(Assignment, Assignment.event_id == Event.id)
    chosen = chosen.where(Event.project_id == project_id, Event.person_id == person_id)
    if event_id is not None:
        chosen = chosen.where(Event.id == event_id)
    found = db.execute(chosen.order_by(Event.id.desc()).limit(1)).first()
    if found is None:
        raise Refused("nothing_to_undo", "there is nothing to undo" if event_id is None else "that is undone already")
    event, assignment = found
    leases.lapse(db, project_id, now)
    hers = leases.Hers(project, member, leases.item_of(db, assignment), assignment)
    gone = hers.item.redacted is not None or (event.kind == "skip" and not hers.item.open)
    if gone or not queue.may_have(member.role, hers.item.purpose):
        raise Refused("lost", "this item is not to be had any more")
    if event.kind == "judgement" and _feedback(db, event, hers.item) is not None:
        raise Refused("nothing_to_undo", "this item has answered already; it cannot be done again")
    events.append(db, project, hers.item, person_id, "undo", {}, now, idempotency_key=key, refers_to=event.id)
    assignment.event_id, assignment.state = None, "live"
    assignment.expires = leases.end(settings, now)
    if event.kind == "judgement":
        assignment.corrects = event.id
        assignment.draft = judgements.by_place(hers.item.kind, event.content or {}, assignment.order)
        assignment.drafted = now  # newer than what any browser kept
        derive.tally(db, event, hers.item, -1)
    queue.refresh(db, hers.item)
    return _task(hers, settings)


def history(db: Session, project_id: int, person_id: int, *, before: int | None = None, limit: int = 50) -> list[Past]:
    """Her own judgements and skips, the newest first; `before` an event's id, to turn the page."""
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
    for event, item, stands in db.execute(chosen.order_by(Event.id.desc()).limit(limit)):
        payload = None if item.redacted else judgements.PAYLOADS[item.kind].model_validate(item.payload)
        order = event.order or []
        answer = event.content
        if answer is not None and event.kind == "judgement":
            answer = judgements.by_place(item.kind, answer, order)
        found.append(
            Past(
                event.id, item.kind, event.kind, event.when, item.ref, stands is not None, payload, answer,
                tuple(order), event.seconds,
            )
        )  # fmt: skip
    return found


def progress(db: Session, project_id: int, person_id: int, now: datetime, *, days: int = 14) -> OwnProgress:
    """Her own standing judgements; `by_day` of the last `days`."""
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


def _task(hers: Hers, settings: ProjectSettings) -> Task:
    assignment, item = hers.assignment, hers.item
    texts = judgements.completions(hers.payload)
    return Task(
        lease=assignment.token,
        kind=item.kind,
        ref=item.ref,
        payload=hers.payload,
        completions=tuple(texts[index] for index in assignment.order),
        order=tuple(assignment.order),
        draft=assignment.draft,
        drafted=assignment.drafted,
        expires=assignment.expires,
        practice=item.purpose == "practice",
        corrects=assignment.corrects,
    )


def _barred(project: Project, member: Membership | None) -> Why | None:
    """Why somebody gets no work at all, if so."""
    if project.archived is not None:
        return "archived"
    if member is None or member.role == "reader":
        return "no_role"
    return "paused" if member.paused is not None else None


def _nothing(db: Session, member: Membership, kinds: tuple[Kind, ...]) -> Nothing:
    if member.phase == "screening":
        return Nothing("screened")
    retry = leases.earliest(db, member.project_id, kinds, besides=member.person_id)
    return Nothing("in_other_hands" if retry is not None else "empty", retry)


def _settle(db: Session, hers: Hers, event: Event, state: Any) -> None:
    assignment = hers.assignment
    assignment.state, assignment.event_id = state, event.id
    assignment.draft = assignment.drafted = assignment.corrects = None
    queue.refresh(db, hers.item)


def _repeated(db: Session, person_id: int, lease: str, key: str, kind: str) -> tuple[Event, Item] | None:
    """What the store made of this key before, if it did."""
    chosen = sa.select(Event, Item).join(Item, Item.id == Event.item_id)
    found = db.execute(chosen.where(Event.person_id == person_id, Event.idempotency_key == _key(key))).first()
    if found is None:
        return None
    event, item = found
    if event.kind != kind or _token(db, item.id, person_id) != lease:
        raise Refused("invalid", "this idempotency key belongs to another submission; take a new one for each")
    return event, item


def _feedback(db: Session, event: Event, item: Item) -> Feedback | None:
    """What an item with a known answer says to who has judged it, where it may."""
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
    """A client's clock may have been set meanwhile."""
    return None if seconds is None or not 0 <= seconds < 1e6 else float(seconds)
