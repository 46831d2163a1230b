"""The JSON API, the labelers' half: the door by which scripts and simulated labelers come in, with a token.

What is checked, stored and answered is what the pages use: `feedback.work`.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from heedful.config import UserError
from heedful.data.records import Prompt, Record
from heedful.feedback import people, projects, work
from heedful.feedback.judgements import PromptRequest
from heedful.feedback.schema import Kind, Project, Role
from heedful.web.security import passwords
from heedful.web.security.access import AsLabeler, AsMember, Id, Now, SignedIn, Stored
from heedful.web.text import markdown

router = APIRouter(prefix="/api", tags=["work"])
Key = Annotated[str, Field(min_length=8, max_length=100, description="Made by the client, one for each answer.")]


class Body(BaseModel):
    """Base of what is sent: a field that does not exist is an error."""

    model_config = ConfigDict(extra="forbid")


class Membership(BaseModel):
    project: str
    title: str
    role: Role
    paused: bool


class Me(BaseModel):
    name: str
    admin: bool
    projects: list[Membership]


class Joining(Body):
    name: str | None = Field(None, max_length=100, description="Of the new account.")
    password: str | None = Field(None, max_length=200)


class Joined(BaseModel):
    token: str = Field(description="Of the new account; shown once.")
    project: str | None
    role: Role


class Task(BaseModel):
    """An item as its labeler sees it: blind, completions in an order of her own. `answer` speaks of places in it."""

    lease: str
    kind: Kind
    ref: str
    prompt: str | list[dict[str, Any]] | None = Field(description="None where a prompt is to be written.")
    request: dict[str, Any] | None = Field(description="Of an item that asks for a prompt: form, use_case, about.")
    completions: list[str]
    draft: Any
    expires: datetime
    practice: bool
    corrects: int | None = Field(description="The undone event that the answer will replace.")


class Next(BaseModel):
    """`task`, or `why` there is none, and when there may be one."""

    task: Task | None
    why: work.Why | None = None
    retry: datetime | None = None


class Draft(Body):
    draft: Any

    @field_validator("draft")
    @classmethod
    def _text(cls, draft: Any) -> Any:
        """Half a character, which JSON can spell, could not be sent back."""
        try:
            json.dumps(draft, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair") from None
        return draft


class Submission(Body):
    """`answer` of a ranking: `ranking` (tiers of places, best first), `none_acceptable`, `ratings` (by place);
    of a choice `preferred` (a: shown first, b, tie); of a demonstration `completion`; of a prompt `prompt`, `use_case`,
    `shots`, `query`. `note` in all.
    """

    answer: dict[str, Any]
    idempotency_key: Key
    seconds: float | None = Field(None, ge=0, le=86400, description="Time at work on it.")


class Feedback(BaseModel):
    """What a gold or practice item answers back."""

    given: dict[str, Any]
    expected: dict[str, Any]
    explanation: str | None
    share: float | None


class Done(BaseModel):
    event: int
    ref: str
    repeated: bool = Field(description="This key had been taken in before; nothing was stored now.")
    feedback: Feedback | None


class Skipping(Body):
    reason: str = Field(max_length=100)
    note: str | None = Field(None, max_length=10_000)
    idempotency_key: Key


class Skipped(BaseModel):
    event: int


class Marking(Body):
    marked: bool = True
    note: str | None = Field(None, max_length=10_000)


class Undoing(Body):
    event: Id | None = Field(None, description="None: the last one.")


class Past(BaseModel):
    event: int
    kind: Kind
    event_kind: str
    when: datetime
    ref: str
    stands: bool
    answer: dict[str, Any] | None
    seconds: float | None


class OwnProgress(BaseModel):
    today: int
    total: int
    seconds_today: float
    by_kind: dict[Kind, int]
    by_day: dict[date, int]


class Instruction(BaseModel):
    version: int
    text: str
    when: datetime


class MarkdownText(Body):
    text: str = Field(max_length=200_000)


class MarkdownHtml(BaseModel):
    html: str


class Consenting(Body):
    version: int


def task_fields(payload: Record) -> tuple[Any, dict[str, Any] | None]:
    """(prompt, request) of an item's payload: what is asked, without what only leads know."""
    if isinstance(payload, Prompt):
        return payload.row()["prompt"], None
    assert isinstance(payload, PromptRequest)
    return None, {"form": payload.form, "use_case": payload.use_case, "about": payload.about}


def task_out(task: work.Task) -> Task:
    prompt, request = task_fields(task.payload)
    return Task(
        lease=task.lease,
        kind=task.kind,
        ref=task.ref,
        prompt=prompt,
        request=request,
        completions=list(task.completions),
        draft=task.draft,
        expires=task.expires,
        practice=task.practice,
        corrects=task.corrects,
    )


@router.get("/me")
def me(person: SignedIn, store: Stored) -> Me:
    """Whose token this is, and where she may do what."""
    with store.reading() as db:
        mine = [(one, db.get_one(Project, one.project_id)) for one in people.memberships(db, person.id)]
    found = [
        Membership(project=project.name, title=project.title, role=one.role, paused=one.paused is not None)
        for one, project in mine
    ]
    return Me(name=person.name, admin=person.admin, projects=found)


@router.post("/join")
def join(request: Request, store: Stored, now: Now, body: Joining) -> Joined:
    """Accept an invitation with a new account; the invitation's token is the bearer token of this request."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "send the invitation's token as the bearer token")
    if body.name is None or body.password is None:
        raise UserError("a new account needs name and password")
    with store.reading() as db:
        if people.open_invitation(db, secret, now) is None:
            raise UserError("this invitation was used, revoked or is too old; ask for a new one")
    password_hash = passwords.hash_password(body.password)
    with store.writing() as db:
        person = people.add_person(db, body.name, password_hash, now)
        membership = people.accept(db, secret, person.id, now)
        token = people.new_token(db, person.id, "api", now, name="from the invitation")[1]
        project = db.get_one(Project, membership.project_id).name if membership else None
        return Joined(token=token, project=project, role=membership.role if membership else "lead")


@router.post("/markdown")
def preview(person: SignedIn, body: MarkdownText) -> MarkdownHtml:
    """Markdown as HTML, as pages show it: no raw HTML, no images, links to http, https and mailto only."""
    return MarkdownHtml(html=markdown.as_html(body.text))


@router.post("/projects/{project}/next")
def next_task(member: AsLabeler, store: Stored, now: Now, kind: Kind | None = None, besides: str | None = None) -> Next:
    """The next task. `besides`: the lease she is busy with, to have the task after it ready."""
    with store.writing() as db:
        found = work.next_task(db, member.project_id, member.person.id, now, kind=kind, besides=besides)
    if isinstance(found, work.Nothing):
        return Next(task=None, why=found.why, retry=found.retry)
    return Next(task=task_out(found))


@router.get("/projects/{project}/tasks/{lease}")
def task(member: AsLabeler, store: Stored, now: Now, lease: str) -> Task:
    """The task of a lease."""
    with store.writing() as db:
        return task_out(work.task_of(db, member.person.id, lease, now))


@router.put("/projects/{project}/tasks/{lease}/draft")
def save_draft(member: AsLabeler, store: Stored, now: Now, lease: str, body: Draft) -> dict[str, datetime]:
    """Keep a draft, any JSON; the lease begins anew."""
    with store.writing() as db:
        return {"expires": work.save_draft(db, member.person.id, lease, body.draft, now)}


@router.post("/projects/{project}/tasks/{lease}/submit")
def submit(member: AsLabeler, store: Stored, now: Now, lease: str, body: Submission) -> Done:
    """Take an answer in. When this answers 200 it is on the disk; where no answer came, send the same once more."""
    with store.writing() as db:
        done = work.submit(
            db, member.person.id, lease, body.answer, now, idempotency_key=body.idempotency_key, seconds=body.seconds
        )
    told = done.feedback
    feedback = Feedback.model_validate(told, from_attributes=True) if told else None
    return Done(event=done.event, ref=done.ref, repeated=done.repeated, feedback=feedback)


@router.post("/projects/{project}/tasks/{lease}/skip")
def skip(member: AsLabeler, store: Stored, now: Now, lease: str, body: Skipping) -> Skipped:
    """Leave an item to others."""
    with store.writing() as db:
        key, note = body.idempotency_key, body.note
        event = work.skip(db, member.person.id, lease, body.reason, now, idempotency_key=key, note=note)
    return Skipped(event=event)


@router.post("/projects/{project}/tasks/{lease}/personal-data", status_code=204)
def mark_personal(member: AsLabeler, store: Stored, now: Now, lease: str, body: Marking) -> None:
    """Report personal data in an item, or take that back."""
    with store.writing() as db:
        work.mark_personal(db, member.person.id, lease, body.marked, now, note=body.note)


@router.post("/projects/{project}/undo")
def undo(member: AsLabeler, store: Stored, now: Now, body: Undoing) -> Task:
    """Take a submission back; its task comes again with what was answered as the draft."""
    with store.writing() as db:
        return task_out(work.undo(db, member.project_id, member.person.id, now, body.event))


@router.get("/projects/{project}/history")
def history(
    member: AsLabeler, store: Stored, before: Id | None = None, limit: Annotated[int, Field(ge=1, le=500)] = 50
) -> list[Past]:
    """One's own judgements and skips, the newest first; `before`: an event, to turn the page."""
    with store.reading() as db:
        found = work.history(db, member.project_id, member.person.id, before=before, limit=limit)
    return [Past.model_validate(one, from_attributes=True) for one in found]


@router.get("/projects/{project}/my-progress")
def my_progress(member: AsLabeler, store: Stored, now: Now) -> OwnProgress:
    """One's own standing judgements; a day begins at midnight UTC."""
    with store.reading() as db:
        found = work.progress(db, member.project_id, member.person.id, now)
    return OwnProgress.model_validate(found, from_attributes=True)


@router.get("/projects/{project}/guide")
def guide(member: AsMember, store: Stored) -> Instruction | None:
    """The current instructions."""
    return _current(store, member.project_id, "guide")


@router.get("/projects/{project}/consent")
def consent_text(member: AsMember, store: Stored) -> Instruction | None:
    """What one agrees to before working."""
    return _current(store, member.project_id, "consent")


@router.post("/projects/{project}/consent", status_code=204)
def consent(member: AsLabeler, store: Stored, now: Now, body: Consenting) -> None:
    """Agree to a version of the consent text."""
    with store.writing() as db:
        people.consent(db, member.project_id, member.person.id, body.version, now)


def _current(store: Stored, project_id: int, kind: Any) -> Instruction | None:
    with store.reading() as db:
        found = projects.instruction(db, project_id, kind)
    return Instruction.model_validate(found, from_attributes=True) if found else None
