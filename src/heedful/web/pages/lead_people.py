"""The lead's overview, the people of a project, and one person."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from heedful.feedback import models, people, projects, readings, work
from heedful.feedback.quality import screening
from heedful.plots.charts import Level, daily, rates
from heedful.plots.svg import svg
from heedful.web import dashboard
from heedful.web.pages import item_view
from heedful.web.pages.lead_layout import lead_page
from heedful.web.security.access import AsReader, Id, Now, Settings, Stored

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
SHOWN = 5  # items of an alert
LEAST_RATED = 3  # pairs of judgements before a labeler's rate is drawn


@router.get("")
def overview(request: Request, member: AsReader, store: Stored, now: Now) -> Response:
    """Figures, forecast, queue and alerts."""
    agreement = dashboard.agreement_of(request, store, member.project_id)
    with store.reading() as db:
        progress = dashboard.progress(db, member.project_id, now)
        invited = len(people.members(db, member.project_id)) > 1
    return lead_page(
        request,
        "overview",
        progress=progress,
        agreement=agreement,
        daily=svg(daily("Judgements a day", progress.daily, "judgements")),
        left=sum(forecast.left for forecast in progress.forecast.values()),
        invited=invited,
    )


@router.get("/people")
def people_page(request: Request, member: AsReader, store: Stored, settings: Settings, now: Now) -> Response:
    """The members, and invitations that nobody has used."""
    agreement = dashboard.agreement_of(request, store, member.project_id)
    with store.reading() as db:
        members = people.members(db, member.project_id)
        progress = dashboard.progress(db, member.project_id, now)
        invitations = people.invitations(db, member.project_id)
        of_models = {one.name: one for one in models.agreement(db, member.project_id)}
    waiting = [one for one in invitations if one.used is None and one.revoked is None and one.expires > now]
    labelers = [(name, rate) for name, rate in agreement.labelers.items() if rate and rate.n >= LEAST_RATED]
    typical = agreement.all.rate
    level = Level(f"all: {typical.mean:.0%}", typical.mean) if typical else None
    return lead_page(
        request,
        "people",
        members=members,
        of_models=of_models,
        progress=progress,
        agreement=agreement,
        waiting=waiting,
        only_here=settings.is_local,
        address=settings.base_url,
        chart=svg(rates("Agreement with the others", labelers, level)) if len(labelers) > 1 else "",
    )


@router.get("/people/{person_id}")
def person_page(request: Request, member: AsReader, store: Stored, now: Now, person_id: Id) -> Response:
    """One person: work, agreement, screening, and what a lead can change."""
    agreement = dashboard.agreement_of(request, store, member.project_id)
    with store.reading() as db:
        found = {person.id: (one, person) for one, person in people.members(db, member.project_id)}
        if person_id not in found:
            raise HTTPException(404)
        membership, person = found[person_id]
        screened = None
        if readings.judgements(db, member.project_id, purposes=("screening",), person_id=person_id):
            cutoffs = projects.settings(db, member.project_id).screening
            screened = screening.screen(readings.onboarding(db, member.project_id, person_id), cutoffs)
        unrated = []
        if member.role == "lead" and membership.phase == "screening":
            unrated = readings.unrated(db, member.project_id, member.person.id)
        alerts = [alert for alert in agreement.alerts if alert.labeler == person.name]
        past = work.history(db, member.project_id, person_id, limit=25)
        of_models = [one for one in models.agreement(db, member.project_id) if one.name == person.name]
        named = [*(one.ref for one in past), *(ref for alert in alerts for ref in alert.items[:SHOWN])]
        return lead_page(
            request,
            "person",
            one=membership,
            person=person,
            own=work.progress(db, member.project_id, person_id, now, days=28),
            past=past,
            beginnings=item_view.beginnings(db, member.project_id, named),
            rate=of_models[0].rate if of_models else agreement.labelers.get(person.name),
            gold=agreement.gold.get(person.name),
            pairs=[pair for pair in agreement.pairs if person.name in (pair.first, pair.second)],
            alerts=alerts,
            shown=SHOWN,
            screened=screened,
            unrated=unrated,
        )
