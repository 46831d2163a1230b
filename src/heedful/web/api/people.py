"""The API of a project's people: members, invitations, screening."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from sqlalchemy.orm import Session

from heedful.collection import forget
from heedful.config import UserError
from heedful.feedback import models, people, projects, readings
from heedful.feedback.quality import screening
from heedful.feedback.schema import Person
from heedful.web import uploads
from heedful.web.api import records
from heedful.web.security.access import AsLead, AsReader, Id, Member, Now, Settings, Stored

router = APIRouter(prefix="/api/projects/{project}", tags=["lead"])


@router.get("/people")
def list_people(member: AsReader, store: Stored) -> list[records.Person]:
    """All members, including those who left."""
    with store.reading() as db:
        return [_person(one, person) for one, person in people.members(db, member.project_id)]


@router.patch("/people/{person_id}")
def change_person(member: AsLead, store: Stored, now: Now, person_id: Id, body: records.PersonChange) -> records.Person:
    """Change role, group or phase, pause or resume, remove from the project or take back."""
    with store.writing() as db:
        by = member.person.id
        if body.role not in (None, "labeler") or body.phase not in (None, "work"):
            _check_person(db, person_id, "works as a labeler alone")
        people.change_member(db, member.project_id, person_id, now, by=by, **body.model_dump(exclude_none=True))
        found = {person.id: (one, person) for one, person in people.members(db, member.project_id)}
        return _person(*found[person_id])


@router.delete("/people/{person_id}")
def delete_person(
    member: AsLead, store: Stored, settings: Settings, now: Now, person_id: Id, body: records.Deletion
) -> records.Deleted:
    """Delete an account with all that the person wrote and judged, in every project."""
    with store.writing() as db:
        person = db.get(Person, person_id)
        if person is None or person.deleted is not None:
            raise HTTPException(404)
        projects = {one.project_id for one in people.memberships(db, person_id, past=True)}
        if not member.person.admin and member.project_id not in projects:
            raise HTTPException(404)
        _check_leads(db, member, person)
        if body.name.strip() != person.name:
            raise UserError(f"Nothing was deleted. Type the name {person.name} to confirm.")
        if person_id == member.person.id:
            raise UserError("you cannot delete your own account here. Ask another lead")
        for one in people.memberships(db, person_id, past=True):  # so that each project's log has it
            people.audit(db, member.person.id, "delete", f"person {person_id}", project_id=one.project_id, now=now)
    kept = forget.delete_account(store, person_id, [settings.folder], now, by=member.person.id)
    uploads.clean(settings.uploads)
    return records.Deleted(snapshots=kept)


@router.post("/people/{person_id}/password-link", status_code=201)
def password_link(member: AsLead, store: Stored, settings: Settings, now: Now, person_id: Id) -> records.Link:
    """Create a link to a new password, for a member who has forgotten theirs."""
    with store.writing() as db:
        if people.membership(db, member.project_id, person_id) is None:
            raise HTTPException(404)
        _check_leads(db, member, db.get_one(Person, person_id))
        _check_person(db, person_id, "has no password")
        target, project = f"person {person_id}", member.project_id
        people.audit(db, member.person.id, "password link", target, project_id=project, now=now)
        token = people.new_token(db, person_id, "password", now, days=1)[1]
    return records.Link(link=f"{settings.base_url}/password/{token}")


@router.get("/people/{person_id}/screening")
def screened(member: AsReader, store: Stored, person_id: Id) -> records.Screening:
    """How a candidate did in screening."""
    with store.reading() as db:
        if people.membership(db, member.project_id, person_id) is None:
            raise HTTPException(404)
        cutoffs = projects.settings(db, member.project_id).screening
        report = screening.screen(readings.onboarding(db, member.project_id, person_id), cutoffs)
    return records.Screening.model_validate(report.row())


@router.get("/unrated")
def unrated(member: AsLead, store: Stored) -> list[records.Unrated]:
    """Demonstrations of candidates that you have not rated."""
    with store.reading() as db:
        found = readings.unrated(db, member.project_id, member.person.id)
    return [records.Unrated(event=event, prompt=prompt, completion=completion) for event, prompt, completion in found]


@router.post("/events/{event}/rating", status_code=204)
def rate(member: AsLead, store: Stored, now: Now, event: Id, body: records.Rating) -> None:
    """Rate a candidate's demonstration, 1 to 7 (D7)."""
    with store.writing() as db:
        readings.rate(db, member.project_id, event, body.rating, now, by=member.person.id)


@router.post("/invitations", status_code=201)
def invite(
    member: AsLead, store: Stored, settings: Settings, now: Now, body: records.NewInvitation
) -> records.Invitations:
    """Create invitations: links that work once. Each note makes one invitation, for one person."""
    made = []
    given = body.model_dump(exclude={"role", "notes"})
    notes: list[str | None] = [*body.notes] or [None]
    with store.writing() as db:
        for note in notes:
            one, token = people.invite(db, member.project_id, body.role, now, by=member.person.id, note=note, **given)
            link = f"{settings.base_url}/join/{token}"
            made.append(records.Invitation(id=one.id, note=one.note, link=link, token=token))
    lines = "\n".join(f"{one.note}: {one.link}" if one.note else one.link for one in made)
    return records.Invitations(invitations=made, lines=lines)


@router.delete("/invitations/{invitation_id}", status_code=204)
def revoke_invitation(member: AsLead, store: Stored, now: Now, invitation_id: Id) -> None:
    """Withdraw an unused invitation."""
    with store.writing() as db:
        people.revoke_invitation(db, member.project_id, invitation_id, now, by=member.person.id)


@router.post("/models", status_code=201)
def add_model(member: AsLead, store: Stored, now: Now, body: records.NewModel) -> records.ModelAccount:
    """Create an account with which a model labels. It is marked as a model wherever its name is shown."""
    with store.writing() as db:
        person, _, token = models.add(db, member.project_id, body.name, body.model, now, by=member.person.id)
        return records.ModelAccount(id=person.id, name=person.name, model=str(person.model), token=token)


@router.get("/models")
def list_models(member: AsReader, store: Stored) -> list[records.ModelAgreement]:
    """How far the models that have judged agree with people."""
    with store.reading() as db:
        found = models.agreement(db, member.project_id)
    return [
        records.ModelAgreement(
            name=one.name, model=one.model, items=one.items, ties=one.ties, text=one.line(),
            rate=one.rate.mean if one.rate else None, low=one.rate.low if one.rate else None,
            high=one.rate.high if one.rate else None, cases=one.rate.n if one.rate else 0,
        )
        for one in found
    ]  # fmt: skip


def _check_person(db: Session, person_id: int, why: str) -> None:
    """Raises UserError for the account of a model."""
    person = db.get(Person, person_id)
    if person is not None and person.model is not None:
        raise UserError(f"{person.name} is the account of a model, which {why}")


def _person(membership: Any, person: Any) -> records.Person:
    of_account = ("id", "name", "model")
    fields = {name: getattr(membership, name) for name in records.Person.model_fields if name not in of_account}
    return records.Person(id=person.id, name=person.name, model=person.model, **fields)


def _check_leads(db: Session, member: Member, person: Person) -> None:
    """Raises UserError unless the member may decide about a whole account.

    Administrators may, and whoever leads all projects in which the account has worked.
    """
    if member.person.admin:
        return
    leads = {one.project_id for one in people.memberships(db, member.person.id) if one.role == "lead"}
    if person.admin or not {one.project_id for one in people.memberships(db, person.id, past=True)} <= leads:
        raise UserError(f"{person.name} works, or worked, in projects you do not lead. An administrator can do this")
