"""The place of work: its pages, and the JSON that their scripts speak."""

from __future__ import annotations

from typing import Any, cast

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from pydantic import Field, JsonValue
from sqlalchemy.orm import Session

from heedful.config import Config
from heedful.feedback import projects, work
from heedful.feedback.schema import Kind
from heedful.web.pages import labeler_own, task_view
from heedful.web.pages.labeler_layout import around, here, must_agree
from heedful.web.pages.render import environment, page
from heedful.web.security.access import AsLabeler, Id, Member, Now, Stored
from heedful.web.text import sanitise, vocabulary

router = APIRouter(prefix="/work/{project}", include_in_schema=False)


class Draft(Config):
    lease: str
    draft: JsonValue


class Sent(Config):
    """What every message about a lease holds; `draft` is kept where the message is refused."""

    lease: str
    draft: JsonValue = None
    seconds: float | None = Field(None, ge=0, le=86_400)


class Submission(Sent):
    judgement: dict[str, JsonValue]


class Skip(Sent):
    reason: str
    note: str = Field("", max_length=500)


class Personal(Sent):
    marked: bool
    note: str = Field("", max_length=500)


class Undo(Config):
    event: Id | None = None


def known(kind: str) -> Kind:
    if kind not in vocabulary.KINDS:
        raise HTTPException(404)
    return cast("Kind", kind)


def key_of(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 8 <= len(key) <= 100:
        raise HTTPException(400, "the header Idempotency-Key is missing")
    return key


def fragment(db: Session, member: Member, now: Now, found: work.Task | work.Nothing, kind: str) -> dict[str, Any]:
    """The context and the template of what is in the middle of the page."""
    shown = around(db, member, now, kind)
    if isinstance(found, work.Task):
        task = task_view.view(found, shown["here"], shown["settings"], _spent_before(db, member, found))
        return shown | {"task": task, "fragment": f"labeler/{found.kind}.html"}
    return shown | {"empty": task_view.empty(found, kind), "fragment": "labeler/empty.html"}


def _spent_before(db: Session, member: Member, task: work.Task) -> float:
    """Seconds of the judgement that was taken back: who does it anew began there."""
    if task.corrects is None:
        return 0
    (past,) = work.history(db, member.project_id, member.person.id, before=task.corrects + 1, limit=1)
    return past.seconds or 0


def html_of(context: dict[str, Any]) -> str:
    return environment.get_template(context["fragment"]).render(**context)


@router.get("")
def start(store: Stored, member: AsLabeler, now: Now) -> Response:
    """To the kind of work that has something to do."""
    with store.writing() as db:
        if must_agree(db, member):
            return RedirectResponse(f"{here(member)}/consent", 303)
        found = work.next_task(db, member.project_id, member.person.id, now)
        kinds = projects.settings(db, member.project_id).kinds
    kind = found.kind if isinstance(found, work.Task) else kinds[0]
    return RedirectResponse(f"{here(member)}/{kind}", 303)


@router.get("/next/{kind}")
def following(store: Stored, member: AsLabeler, now: Now, kind: str, besides: str | None = None) -> Response:
    """The next item as JSON, to be shown without loading a page; `besides` the one that is being worked on."""
    known(kind)
    with store.writing() as db:
        found = work.next_task(db, member.project_id, member.person.id, now, kind=known(kind), besides=besides)
        shown = fragment(db, member, now, found, kind)
    if isinstance(found, work.Nothing):
        return JSONResponse({"lease": None, "html": html_of(shown)})
    lasts = (found.expires - now).total_seconds()
    return JSONResponse({"lease": found.lease, "lasts": lasts, "html": html_of(shown)})


@router.get("/text/{lease}/{part}")
def whole_text(store: Stored, member: AsLabeler, now: Now, lease: str, part: str) -> Response:
    """A text that is too long for a page, whole and plain."""
    with store.writing() as db:
        task = work.task_of(db, member.person.id, lease, now)
    if part == "prompt":
        prompt = task.payload.model_dump().get("prompt", "")
        text = (
            prompt if isinstance(prompt, str) else "\n\n".join(f"{turn['role']}:\n{turn['content']}" for turn in prompt)
        )
    elif part.isdigit() and int(part) < len(task.completions):
        text = task.completions[int(part)]
    else:
        raise HTTPException(404)
    return PlainTextResponse(sanitise.plain(text))


@router.post("/draft")
def draft(store: Stored, member: AsLabeler, now: Now, sent: Draft) -> Response:
    with store.writing() as db:
        until = work.save_draft(db, member.person.id, sent.lease, sent.draft, now)
    return JSONResponse({"until": until.isoformat(), "drafted": task_view.milliseconds(now)})


@router.post("/submit")
def submit(request: Request, store: Stored, member: AsLabeler, now: Now, sent: Submission) -> Response:
    key = key_of(request)
    try:
        with store.writing() as db:
            done = work.submit(
                db, member.person.id, sent.lease, sent.judgement, now, idempotency_key=key, seconds=sent.seconds
            )
    except work.Refused as error:
        if error.code != "invalid":
            raise
        with store.writing() as db:
            task = work.task_of(db, member.person.id, sent.lease, now)
            shown = fragment(db, member, now, task, task.kind)
        return JSONResponse({"error": str(error), "code": error.code, "again": html_of(shown)}, 400)
    with store.reading() as db:
        shown = around(db, member, now, "")
        answer = {"event": done.event, "today": shown["today"], "answered": None}
        if done.feedback is not None:
            past = work.history(db, member.project_id, member.person.id, before=done.event + 1, limit=1)[0]
            shown |= {"feedback": done.feedback, "task": task_view.past_view(past, here(member))}
            answer["answered"] = environment.get_template("labeler/answered.html").render(**shown)
    return JSONResponse(answer)


@router.post("/skip")
def skip(request: Request, store: Stored, member: AsLabeler, now: Now, sent: Skip) -> Response:
    if sent.reason not in dict(vocabulary.SKIP_REASONS):
        raise HTTPException(422, "no such reason")
    key, note = key_of(request), sent.note.strip() or None
    with store.writing() as db:
        event = work.skip(db, member.person.id, sent.lease, sent.reason, now, idempotency_key=key, note=note)
    return JSONResponse({"event": event})


@router.post("/personal")
def personal(store: Stored, member: AsLabeler, now: Now, sent: Personal) -> Response:
    with store.writing() as db:
        work.mark_personal(db, member.person.id, sent.lease, sent.marked, now, note=sent.note.strip() or None)
    return JSONResponse({})


@router.post("/undo")
def undo(store: Stored, member: AsLabeler, now: Now, sent: Undo) -> Response:
    with store.writing() as db:
        task = work.undo(db, member.project_id, member.person.id, now, sent.event)
        shown = fragment(db, member, now, task, task.kind)
    return JSONResponse({"kind": task.kind, "lease": task.lease, "html": html_of(shown), "today": shown["today"]})


router.include_router(labeler_own.router)


@router.get("/{kind}")
def workplace(request: Request, store: Stored, member: AsLabeler, now: Now, kind: str) -> Response:
    """The place of work for one kind, with an item on it."""
    known(kind)
    with store.writing() as db:
        if must_agree(db, member):
            return RedirectResponse(f"{here(member)}/consent", 303)
        found = work.next_task(db, member.project_id, member.person.id, now, kind=known(kind))
        shown = fragment(db, member, now, found, kind)
    return page(request, "labeler/task.html", **shown)
