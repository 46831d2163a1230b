"""What a labeler may read: the guide, what she agreed to, her own history and progress; and the first steps."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from heedful.feedback import people, projects, readings, work
from heedful.feedback.quality import agreement, gold
from heedful.feedback.schema import WORK
from heedful.maths.statistics import Interval
from heedful.plots.charts import daily
from heedful.plots.svg import svg
from heedful.web.pages import task_view
from heedful.web.pages.labeler_layout import around, here
from heedful.web.pages.render import page
from heedful.web.security.access import AsLabeler, Id, Member, Now, Stored
from heedful.web.text import vocabulary

router = APIRouter()
DAYS = 14  # in the chart of a labeler's own work
PAGE = 50  # entries of history
AGREEMENT_OVER = timedelta(days=30)


@router.get("/guide")
def guide(request: Request, store: Stored, member: AsLabeler, now: Now, version: Id | None = None) -> Response:
    with store.reading() as db:
        versions = projects.instructions(db, member.project_id, "guide")
        found = next((text for text in versions if version is None or text.version == version), None)
        if version is not None and found is None:
            raise HTTPException(404)
        shown = around(db, member, now, "guide")
    current = found is not None and found is versions[0]
    return page(request, "labeler/guide.html", **shown, guide=found, versions=versions, current=current)


@router.get("/consent")
def consent(request: Request, store: Stored, member: AsLabeler, now: Now) -> Response:
    with store.reading() as db:
        text = projects.instruction(db, member.project_id, "consent")
        given = people.consents(db, member.project_id, member.person.id)
        shown = around(db, member, now, "consent")
    agreed = next((one.when for one in given if text and one.version == text.version), None)
    return page(request, "labeler/consent.html", **shown, consent=text, agreed=agreed)


@router.post("/consent")
def agree(store: Stored, member: AsLabeler, now: Now, version: Annotated[int, Form()]) -> Response:
    with store.writing() as db:
        people.consent(db, member.project_id, member.person.id, version, now)
    return RedirectResponse(here(member), 303)


@router.get("/topics")
def topics(request: Request, store: Stored, member: AsLabeler, now: Now) -> Response:
    """Topics and groups about which she can tell sensitive speech (D7, the fourth criterion of screening)."""
    with store.reading() as db:
        joined = people.membership(db, member.project_id, member.person.id)
        shown = around(db, member, now, "topics")
    stated = list(joined.topics or []) if joined else []
    others = [topic for topic in stated if topic not in vocabulary.TOPICS]
    return page(request, "labeler/topics.html", **shown, topics=vocabulary.TOPICS, stated=stated, others=others)


@router.post("/topics")
def state_topics(
    store: Stored,
    member: AsLabeler,
    topic: Annotated[list[str] | None, Form()] = None,
    others: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    stated = [one for one in topic or [] if one in vocabulary.TOPICS]
    stated += [line.strip() for line in others.splitlines() if line.strip()]
    with store.writing() as db:
        people.state_topics(db, member.project_id, member.person.id, stated)
    return RedirectResponse(here(member), 303)


@router.get("/history")
def history(request: Request, store: Stored, member: AsLabeler, now: Now, before: Id | None = None) -> Response:
    with store.reading() as db:
        found = work.history(db, member.project_id, member.person.id, before=before, limit=PAGE)
        shown = around(db, member, now, "history")
    entries = [task_view.entry(past) for past in found]
    older = found[-1].event if len(found) == PAGE else None
    return page(request, "labeler/history.html", **shown, entries=entries, older=older, first=before is None)


@router.get("/history/{event}")
def past(request: Request, store: Stored, member: AsLabeler, now: Now, event: Id) -> Response:
    """One of her own judgements, as it was."""
    with store.reading() as db:
        found = work.history(db, member.project_id, member.person.id, before=event + 1, limit=1)
        shown = around(db, member, now, "history")
    if not found or found[0].event != event:
        raise HTTPException(404)
    task = task_view.past_view(found[0], here(member)) if found[0].payload is not None else None
    return page(request, "labeler/past.html", **shown, past=found[0], entry=task_view.entry(found[0]), task=task)


@router.get("/progress")
def progress(request: Request, store: Stored, member: AsLabeler, now: Now) -> Response:
    with store.reading() as db:
        shown = around(db, member, now, "progress")
        own = work.progress(db, member.project_id, member.person.id, now, days=DAYS)
        known = own_quality(db, member, shown["settings"], now)
    days = [now.date() - timedelta(days=ago) for ago in reversed(range(DAYS))]
    chart = svg(daily("The last two weeks", [(day, own.by_day.get(day, 0)) for day in days], "judgements"))
    return page(request, "labeler/progress.html", **shown, own=own, known=known, chart=chart)


def own_quality(
    db: Session, member: Member, settings: projects.ProjectSettings, now: datetime
) -> dict[str, Interval | None]:
    """Her accuracy on gold items and her agreement with others, as far as the lead lets her see them."""
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
