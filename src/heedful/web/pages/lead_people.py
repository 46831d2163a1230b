"""The lead's overview, her people, and one person."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import people, projects, readings, work
from heedful.feedback.quality import screening
from heedful.feedback.schema import Membership, Person, Role
from heedful.plots.charts import Level, Rate, daily, rates
from heedful.plots.svg import svg
from heedful.web import actions, dashboard
from heedful.web.dashboard import Agreements
from heedful.web.pages.lead_layout import Text, done, lead_page
from heedful.web.security.access import AsLead, AsReader, Id, Member, Now, Settings, Stored

router = APIRouter(prefix="/lead/{project}", include_in_schema=False)
LEAST_RATED = 3  # pairs of judgements before a labeler's rate is drawn


@router.get("")
def overview(request: Request, member: AsReader, store: Stored, now: Now) -> Response:
    with store.reading() as db:
        progress = dashboard.progress(db, member.project_id, now)
        agreement = _agreements(request).of(db, member.project_id)
        invited = len(people.members(db, member.project_id)) > 1
    return lead_page(
        request,
        member,
        "overview",
        "",
        progress=progress,
        agreement=agreement,
        daily=svg(daily("Judgements a day", progress.daily, "judgements")),
        left=sum(forecast.left for forecast in progress.forecast.values()),
        invited=invited,
    )


@router.get("/people")
def people_page(request: Request, member: AsReader, store: Stored, now: Now) -> Response:
    return _people(request, member, store, now)


@router.post("/people/invite")
def invite(
    request: Request,
    member: AsLead,
    store: Stored,
    settings: Settings,
    now: Now,
    role: Annotated[Role, Form()],
    group: Text = "",
    note: Text = "",
    days: Annotated[float, Form(gt=0, le=90)] = 7,
) -> Response:
    """The link is shown once, on the page that answers."""
    with store.writing() as db:
        _, token = people.invite(
            db,
            member.project_id,
            role,
            now,
            by=member.person.id,
            group=group or None,
            note=note or None,
            hours=24 * days,
        )
    return _people(request, member, store, now, link=f"{settings.base_url}/join/{token}", link_role=role)


@router.post("/people/invitations/{invitation_id}/revoke")
def revoke(member: AsLead, store: Stored, now: Now, invitation_id: Id) -> Response:
    with store.writing() as db:
        people.revoke_invitation(db, member.project_id, invitation_id, now, by=member.person.id)
    return done(member, "/people", "revoked")


@router.get("/people/{person_id}")
def person_page(request: Request, member: AsReader, store: Stored, now: Now, person_id: Id) -> Response:
    return _person(request, member, store, now, person_id)


@router.post("/people/{person_id}/password")
def new_password(
    request: Request, member: AsLead, store: Stored, settings: Settings, now: Now, person_id: Id
) -> Response:
    """The link is shown once, on the page that answers."""
    with store.writing() as db:
        _member(db, member, person_id)
        token = actions.password_link(db, member, person_id, now)
    return _person(request, member, store, now, person_id, link=f"{settings.base_url}/password/{token}")


def _person(request: Request, member: Member, store: Stored, now: datetime, person_id: int, link: str = "") -> Response:
    with store.reading() as db:
        membership, person = _member(db, member, person_id)
        agreement = _agreements(request).of(db, member.project_id)
        screened = None
        if readings.judgements(db, member.project_id, purposes=("screening",), person_id=person_id):
            cutoffs = projects.settings(db, member.project_id).screening
            screened = screening.screen(readings.onboarding(db, member.project_id, person_id), cutoffs)
        unrated = []
        if member.role == "lead" and membership.phase == "screening":
            unrated = readings.unrated(db, member.project_id, member.person.id)
        return lead_page(
            request,
            member,
            "person",
            "/people",
            one=membership,
            person=person,
            own=work.progress(db, member.project_id, person_id, now, days=28),
            past=work.history(db, member.project_id, person_id, limit=25),
            rate=agreement.labelers.get(person.name),
            gold=agreement.gold.get(person.name),
            pairs=[pair for pair in agreement.pairs if person.name in (pair.first, pair.second)],
            alerts=[alert for alert in agreement.alerts if alert.labeler == person.name],
            consents=people.consents(db, member.project_id, person_id),
            screened=screened,
            unrated=unrated,
            link=link,
        )


@router.post("/people/{person_id}")
def change_person(
    member: AsLead,
    store: Stored,
    now: Now,
    person_id: Id,
    do: Annotated[str, Form()],
    role: Text = "",
    group: Text = "",
    phase: Text = "",
    why: Text = "",
) -> Response:
    """`do`: pause, resume, change, leave, return."""
    with store.writing() as db:
        membership, _ = _member(db, member, person_id)
        by, place = member.person.id, f"/people/{person_id}"
        if do in ("pause", "resume"):
            pausing = do == "pause"
            people.change_member(db, member.project_id, person_id, now, by=by, paused=pausing, why=why[:1000] or None)
            return done(member, place, "paused" if pausing else "resumed")
        if do in ("leave", "return"):
            people.change_member(db, member.project_id, person_id, now, by=by, left=do == "leave")
            return done(member, place, "left" if do == "leave" else "changed")
        if do != "change":
            raise HTTPException(422)
        people.change_member(
            db,
            member.project_id,
            person_id,
            now,
            by=by,
            role=role or membership.role,  # type: ignore[arg-type]  # people checks it
            group=group,
            phase=phase or membership.phase,  # type: ignore[arg-type]
        )
    return done(member, place, "changed")


@router.post("/people/{person_id}/rate/{event_id}")
def rate(
    member: AsLead, store: Stored, now: Now, person_id: Id, event_id: Id, rating: Annotated[int, Form(ge=1, le=7)]
) -> Response:
    """A screening demonstration, 1 to 7 (D7)."""
    with store.writing() as db:
        readings.rate(db, member.project_id, event_id, rating, now, by=member.person.id)
    return done(member, f"/people/{person_id}", "rated")


@router.post("/people/{person_id}/delete")
def delete_person(
    request: Request, member: AsLead, store: Stored, now: Now, person_id: Id, name: Text = ""
) -> Response:
    """Asks for the name, as nothing brings the texts back."""
    with store.writing() as db:
        _, person = _member(db, member, person_id)
        if name.strip() != person.name:
            raise UserError(f"Nothing was deleted: type the name {person.name} to say that you mean it.")
        kept = actions.delete_person(db, member, person_id, now)
    return lead_page(request, member, "deleted", "/people", kept=kept)


def _people(
    request: Request, member: Member, store: Stored, now: datetime, link: str = "", link_role: str = ""
) -> Response:
    with store.reading() as db:
        members = people.members(db, member.project_id)
        progress = dashboard.progress(db, member.project_id, now)
        agreement = _agreements(request).of(db, member.project_id)
        waiting = [
            one
            for one in people.invitations(db, member.project_id)
            if one.used is None and one.revoked is None and one.expires > now
        ]
    labelers = [
        Rate(name, rate.mean, rate.low, rate.high, rate.n)
        for name, rate in agreement.labelers.items()
        if rate is not None and rate.n >= LEAST_RATED
    ]
    typical = agreement.all.rate
    level = Level(f"all: {typical.mean:.0%}", typical.mean) if typical else None
    return lead_page(
        request,
        member,
        "people",
        "/people",
        members=members,
        progress=progress,
        agreement=agreement,
        waiting=waiting,
        chart=svg(rates("Agreement with the others", labelers, level)) if len(labelers) > 1 else "",
        link=link,
        link_role=link_role,
    )


def _member(db: Session, member: Member, person_id: int) -> tuple[Membership, Person]:
    """Somebody who is or was in the project; 404 for anybody else."""
    found = {person.id: (one, person) for one, person in people.members(db, member.project_id)}
    if person_id not in found:
        raise HTTPException(404)
    return found[person_id]


def _agreements(request: Request) -> Agreements:
    found: Agreements = request.app.state.agreements
    return found
