"""The labelers' pages. Their scripts read and write through the API (`api.work`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from sqlalchemy.orm import Session

from heedful.feedback import people, projects, readings, work
from heedful.feedback.quality import agreement, gold
from heedful.feedback.schema import WORK, Kind
from heedful.maths.statistics import Interval
from heedful.plots.charts import daily
from heedful.plots.svg import svg
from heedful.web.pages import fragments, task_view
from heedful.web.pages.labeler_layout import here, layout
from heedful.web.pages.render import page
from heedful.web.security.access import AsLabeler, Id, Member, Now, Stored
from heedful.web.text import sanitise, vocabulary

router = APIRouter(prefix="/work/{project}", include_in_schema=False)
DAYS = 14  # of the chart of a labeler's own work
PAGE = 50  # entries of history
AGREEMENT_OVER = timedelta(days=30)


@router.get("")
def start(store: Stored, member: AsLabeler, now: Now) -> Response:
    """Redirects to a kind of work that has a task."""
    with store.writing() as db:
        if not people.has_consented(db, member.project_id, member.person.id):
            return RedirectResponse(f"{here(member)}/consent", 303)
        found = work.next_task(db, member.project_id, member.person.id, now)
        kinds = projects.settings(db, member.project_id).kinds
    kind = found.kind if isinstance(found, work.Task) else kinds[0]
    return RedirectResponse(f"{here(member)}/{kind}", 303)


@router.get("/text/{lease}/{part}")
def whole_text(store: Stored, member: AsLabeler, now: Now, lease: str, part: str) -> Response:
    """A text that is too long for a page, as plain text. `part`: `prompt`, or the place of an answer."""
    with store.writing() as db:
        task = work.task_of(db, member.person.id, lease, now)
    if part == "prompt":
        prompt = task.prompt or ""
        turns = [prompt] if isinstance(prompt, str) else [f"{turn.role}:\n{turn.shown}" for turn in prompt]
        text = "\n\n".join(turns)
    elif part.isdecimal() and int(part) < len(task.completions):
        text = task.completions[int(part)]
    else:
        raise HTTPException(404)
    return PlainTextResponse(sanitise.plain(text))


@router.get("/guide")
def guide(request: Request, store: Stored, member: AsLabeler, now: Now, version: Id | None = None) -> Response:
    """The guide, in the current or an older version."""
    with store.reading() as db:
        versions = projects.instructions(db, member.project_id, "guide")
        found = next((text for text in versions if version is None or text.version == version), None)
        if version is not None and found is None:
            raise HTTPException(404)
        shown = layout(db, member, now, "guide")
    current = found is not None and found is versions[0]
    return page(request, "labeler/guide.html", **shown, guide=found, versions=versions, current=current)


@router.get("/consent")
def consent(request: Request, store: Stored, member: AsLabeler, now: Now, kind: str = "") -> Response:
    """The consent text, with a form until the labeler has agreed to it."""
    with store.reading() as db:
        text = projects.instruction(db, member.project_id, "consent")
        given = people.consents(db, member.project_id, member.person.id)
        shown = layout(db, member, now, "consent")
    agreed = next((one.when for one in given if text and one.version == text.version), None)
    next_page = f"{here(member)}/{kind}" if kind in vocabulary.KINDS else here(member)
    return page(request, "labeler/consent.html", **shown, consent=text, agreed=agreed, next_page=next_page)


@router.get("/topics")
def topics(request: Request, store: Stored, member: AsLabeler, now: Now) -> Response:
    """A form for the topics in which the labeler recognises sensitive speech (D7)."""
    with store.reading() as db:
        joined = people.membership(db, member.project_id, member.person.id)
        shown = layout(db, member, now, "topics")
    stated = list(joined.topics or []) if joined else []
    others = [topic for topic in stated if topic not in vocabulary.TOPICS]
    return page(request, "labeler/topics.html", **shown, topics=vocabulary.TOPICS, stated=stated, others=others)


@router.get("/history")
def history(request: Request, store: Stored, member: AsLabeler, now: Now, before: Id | None = None) -> Response:
    """The labeler's own judgements and skips."""
    with store.reading() as db:
        found = work.history(db, member.project_id, member.person.id, before=before, limit=PAGE)
        shown = layout(db, member, now, "history")
    entries = [task_view.entry(past) for past in found]
    older = found[-1].event if len(found) == PAGE else None
    return page(request, "labeler/history.html", **shown, entries=entries, older=older, first=before is None)


@router.get("/history/{event}")
def past(request: Request, store: Stored, member: AsLabeler, now: Now, event: Id) -> Response:
    """One of the labeler's own judgements."""
    with store.reading() as db:
        found = work.history(db, member.project_id, member.person.id, before=event + 1, limit=1)
        shown = layout(db, member, now, "history")
    if not found or found[0].event != event:
        raise HTTPException(404)
    seen = found[0].payload is not None
    task = task_view.past_view(found[0], here(member), shown["settings"]) if seen else None
    return page(request, "labeler/past.html", **shown, past=found[0], entry=task_view.entry(found[0]), task=task)


@router.get("/progress")
def progress(request: Request, store: Stored, member: AsLabeler, now: Now) -> Response:
    """The labeler's own progress, and agreement if the project shows it."""
    with store.reading() as db:
        shown = layout(db, member, now, "progress")
        own = work.progress(db, member.project_id, member.person.id, now, days=DAYS)
        known = _quality(db, member, shown["settings"], now)
    days = [now.date() - timedelta(days=ago) for ago in reversed(range(DAYS))]
    chart = svg(daily("The last two weeks", [(day, own.by_day.get(day, 0)) for day in days], "judgements"))
    return page(request, "labeler/progress.html", **shown, own=own, known=known, chart=chart, midnight=_midnight(now))


@router.get("/{kind}")
def task(request: Request, store: Stored, member: AsLabeler, now: Now, kind: str) -> Response:
    """The page of one kind of work, with a task on it."""
    if kind not in vocabulary.KINDS:
        raise HTTPException(404)
    chosen = cast("Kind", kind)
    with store.writing() as db:
        if not people.has_consented(db, member.project_id, member.person.id):
            return RedirectResponse(f"{here(member)}/consent?kind={kind}", 303)
        found = work.next_task(db, member.project_id, member.person.id, now, kind=chosen)
        shown = fragments.task_context(db, member, now, found, chosen)
    return page(request, "labeler/task.html", **shown)


def _midnight(now: datetime) -> datetime:
    """When the day of tallies began."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _quality(
    db: Session, member: Member, settings: projects.ProjectSettings, now: datetime
) -> dict[str, Interval | None]:
    """Accuracy on gold items and agreement with others, where the project shows them to labelers."""
    name, project_id = member.person.name, member.project_id
    found: dict[str, Interval | None] = {}
    if settings.show_gold:
        judged = readings.judgements(db, project_id, purposes=readings.KNOWN, person_id=member.person.id)
        own = gold.accuracy(judged).get(name)
        found["gold"] = own.accuracy if own else None
    if settings.show_agreement:
        judged = readings.judgements(db, project_id, purposes=WORK, since=now - AGREEMENT_OVER)
        found["agreement"] = agreement.by_labeler(agreement.preference_table(judged)).get(name)
    return found
