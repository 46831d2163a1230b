"""The API of a labeler's work. With `Accept: text/html` some routes return the part of the page that follows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from heedful.feedback import people, projects, work
from heedful.feedback.schema import InstructionKind, LabelingKind
from heedful.web.api import records
from heedful.web.pages import fragments
from heedful.web.security.access import AsLabeler, AsMember, Id, Now, Stored, WantsHtml

router = APIRouter(prefix="/api/projects/{project}", tags=["work"])


@router.post("/next", response_model=records.Next)
def next_task(
    member: AsLabeler,
    store: Stored,
    now: Now,
    html: WantsHtml,
    kind: LabelingKind | None = None,
    besides: str | None = None,
) -> records.Next | Response:
    """The next task. `besides`: the lease in progress, to get the task after it."""
    with store.writing() as db:
        found = work.next_task(db, member.project_id, member.person.id, now, kind=kind, besides=besides)
        if html:
            return fragments.task(db, member, now, found, kind)
    if isinstance(found, work.Nothing):
        return records.Next(task=None, why=found.why, retry=found.retry)
    return records.Next(task=found)


@router.get("/tasks/{lease}", response_model=work.Task)
def task(member: AsLabeler, store: Stored, now: Now, html: WantsHtml, lease: str) -> work.Task | Response:
    """The task of a lease."""
    with store.writing() as db:
        found = work.task_of(db, member.person.id, lease, now)
        return fragments.task(db, member, now, found) if html else found


@router.put("/tasks/{lease}/draft")
def save_draft(member: AsLabeler, store: Stored, now: Now, lease: str, body: records.Draft) -> records.Drafted:
    """Save a draft, any JSON, and renew the lease."""
    with store.writing() as db:
        return records.Drafted(drafted=now, expires=work.save_draft(db, member.person.id, lease, body.draft, now))


@router.post("/tasks/{lease}/submit", response_model=work.Done)
def submit(
    member: AsLabeler, store: Stored, now: Now, html: WantsHtml, lease: str, body: records.Submission
) -> work.Done | Response:
    """Submit an answer. Status 200 means that it is on the disk. If no response came, send the same body again."""
    with store.writing() as db:
        done = work.submit(
            db, member.person.id, lease, body.answer, now, idempotency_key=body.idempotency_key, seconds=body.seconds
        )
    if not html:
        return done
    with store.reading() as db:
        return fragments.done(db, member, now, done)


@router.post("/tasks/{lease}/skip")
def skip(member: AsLabeler, store: Stored, now: Now, lease: str, body: records.Skip) -> records.Skipped:
    """Leave an item to others."""
    with store.writing() as db:
        key, note = body.idempotency_key, body.note
        event = work.skip(db, member.person.id, lease, body.reason, now, idempotency_key=key, note=note)
    return records.Skipped(event=event)


@router.post("/tasks/{lease}/personal-data", status_code=204)
def mark_personal(member: AsLabeler, store: Stored, now: Now, lease: str, body: records.PersonalData) -> None:
    """Report personal data in an item, or withdraw the report."""
    with store.writing() as db:
        work.mark_personal(db, member.person.id, lease, body.marked, now, note=body.note)


@router.post("/undo", response_model=work.Task)
def undo(member: AsLabeler, store: Stored, now: Now, html: WantsHtml, body: records.Undo) -> work.Task | Response:
    """Take a submission back. Returns its task, with the answer as the draft."""
    with store.writing() as db:
        found = work.undo(db, member.project_id, member.person.id, now, body.event)
        return fragments.task(db, member, now, found) if html else found


@router.get("/history")
def history(
    member: AsLabeler, store: Stored, before: Id | None = None, limit: Annotated[int, Field(ge=1, le=500)] = 50
) -> list[work.Past]:
    """Your judgements and skips, newest first. `before`: an event, for the next page."""
    with store.reading() as db:
        return work.history(db, member.project_id, member.person.id, before=before, limit=limit)


@router.get("/my-progress")
def my_progress(member: AsLabeler, store: Stored, now: Now) -> work.OwnProgress:
    """Your standing judgements. A day begins at midnight UTC."""
    with store.reading() as db:
        return work.progress(db, member.project_id, member.person.id, now)


@router.get("/guide")
def guide(member: AsMember, store: Stored) -> records.Instruction | None:
    """The current guide."""
    return _current(store, member.project_id, "guide")


@router.get("/consent")
def consent_text(member: AsMember, store: Stored) -> records.Instruction | None:
    """The text that labelers agree to before they work."""
    return _current(store, member.project_id, "consent")


@router.post("/consent", status_code=204)
def consent(member: AsLabeler, store: Stored, now: Now, body: records.Consent) -> None:
    """Agree to a version of the consent text."""
    with store.writing() as db:
        people.consent(db, member.project_id, member.person.id, body.version, now)


@router.put("/topics", status_code=204)
def state_topics(member: AsLabeler, store: Stored, body: records.Topics) -> None:
    """State the topics and groups for which you can recognise sensitive speech (D7)."""
    with store.writing() as db:
        people.state_topics(db, member.project_id, member.person.id, body.topics)


def _current(store: Stored, project_id: int, kind: InstructionKind) -> records.Instruction | None:
    with store.reading() as db:
        found = projects.instruction(db, project_id, kind)
    return records.Instruction.model_validate(found) if found else None
