"""The page of keys, and its API: a person's own keys, and for administrators everybody's."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from heedful.collection.settings import Terms
from heedful.config import UserError
from heedful.feedback import keys, people
from heedful.feedback.schema import ApiKey
from heedful.serve.answering import Service
from heedful.serve.settings import ServeSettings
from heedful.web.api.base import Body, Out
from heedful.web.pages import render
from heedful.web.security.access import AsAdmin, CurrentPerson, Id, Now, SignedIn, Stored, root_of

router = APIRouter(prefix="/api/keys", tags=["keys"])
pages = APIRouter(include_in_schema=False)
BY_ADMIN = "An administrator of this server suspended it."


class KeyConsent(Body):
    """What a person agrees to."""

    consent: bool = False
    """Whether what is asked with the key may be kept."""
    version: str | None = Field(None, max_length=100)
    """Of the text that the person read. Needed with consent."""


class NewKey(KeyConsent):
    name: str = Field(max_length=200)
    policy: bool
    """Whether the person agrees to the use policy. A key is made only then."""


class ChangedKey(KeyConsent):
    consent: bool | None = None  # type: ignore[assignment]
    suspended: bool | None = None
    why: str | None = Field(None, max_length=200)
    """Why an administrator suspends it. Its person reads this."""
    requests_a_minute: int | None = Field(None, ge=0, lt=2**31)
    """A limit of its own, which administrators set. 0: none."""
    tokens_a_day: int | None = Field(None, ge=0, lt=2**53)
    """A quota of its own, which administrators set. 0: none."""


class Secret(Out):
    id: int
    key: str
    """It is shown once."""


class Key(Out):
    id: int
    name: str
    created: datetime
    suspended: datetime | None
    suspended_why: str | None
    consent: str | None
    """The version of the text that the person agreed to, or null."""
    requests_a_minute: int | None
    tokens_a_day: int | None


class Invited(Body):
    note: str | None = Field(None, max_length=100)
    hours: float = Field(168, gt=0, le=24 * 90)


class Link(Out):
    link: str


@router.get("")
def mine(person: SignedIn, store: Stored) -> list[Key]:
    """Your keys."""
    with store.reading() as db:
        return [Key.model_validate(key) for key in keys.of_person(db, person.id)]


@router.post("", status_code=201)
def create(request: Request, person: SignedIn, store: Stored, now: Now, body: NewKey) -> Secret:
    """Create a key."""
    if not body.policy:
        raise UserError("policy: a key is made only for people who agree to the use policy")
    consent = agreed(request, body.consent, body.version)
    with store.writing() as db:
        key, secret = keys.new(db, person.id, body.name, now, consent=consent)
        return Secret(id=key.id, key=secret)


@router.patch("/pages", status_code=204)
def change_pages(request: Request, person: SignedIn, store: Stored, now: Now, body: KeyConsent) -> None:
    """Change whether what you ask on the pages of this server may be kept."""
    consent = agreed(request, body.consent, body.version)
    with store.writing() as db:
        keys.agree(keys.of_pages(db, person.id, now), consent, now)
    _forget(request)


@router.patch("/{key_id}", status_code=204)
def change(request: Request, person: SignedIn, store: Stored, now: Now, key_id: Id, body: ChangedKey) -> None:
    """Change what is given: consent, a suspension, or limits, which administrators set."""
    limits = body.model_dump(include={"requests_a_minute", "tokens_a_day"}, exclude_unset=True)
    if limits and not person.admin:
        raise HTTPException(403, "Administrators set limits.")
    consent = agreed(request, bool(body.consent), body.version)
    with store.writing() as db:
        key = _key(db, person, key_id)
        own = key.person_id == person.id
        if body.consent is not None:
            if not own:
                raise HTTPException(403, "Only its person decides what may be kept.")
            keys.agree(key, consent, now)
        if body.suspended:
            keys.suspend(db, key, now, by=person.id, why=None if own else body.why or BY_ADMIN)
        elif body.suspended is False:
            if key.suspended_why is not None and not person.admin:
                raise HTTPException(403, "An administrator suspended this key, and can resume it.")
            keys.resume(db, key, now, by=person.id)
        for name, value in limits.items():
            setattr(key, name, value)
        if limits:
            people.audit(db, person.id, "limits", f"key {key.id}", limits, now=now)
    _forget(request)


@router.delete("/{key_id}", status_code=204)
def delete(request: Request, person: SignedIn, store: Stored, now: Now, key_id: Id) -> None:
    """Delete a key. Programs with it are refused from now on."""
    with store.writing() as db:
        key = _key(db, person, key_id)
        if key.secret_hash is None:
            raise UserError("this stands for the pages of this server. Suspend it instead")
        keys.delete(db, key, now, by=person.id)
    _forget(request)


@router.post("/invitations", status_code=201)
def invite(request: Request, person: AsAdmin, store: Stored, now: Now, body: Invited) -> Link:
    """Create a link with which somebody makes an account. It works once."""
    settings: ServeSettings = request.app.state.settings
    with store.writing() as db:
        _, token = people.invite(db, None, "reader", now, by=person.id, note=body.note, hours=body.hours)
    return Link(link=f"{settings.base_url}/join/{token}")


@pages.get("/keys")
def page(request: Request, person: SignedIn, store: Stored, now: Now) -> Response:
    """The page of keys."""
    settings: ServeSettings = request.app.state.settings
    with store.reading() as db:
        own, pages_key = keys.of_person(db, person.id), keys.find_of_pages(db, person.id)
        everybody = keys.everybodys(db) if person.admin else []
        spent = {key.id: keys.used(db, key.id, now.date()) for key in [*own, *(key for key, _ in everybody)]}
    return render.page(
        request, "serve/keys.html", own=own, pages_key=pages_key, everybody=everybody, spent=spent,
        policy=settings.policy, terms=_terms(request), limits=settings.limits, address=settings.base_url,
        models=list(_service(request).models), base=root_of(request), only_here=settings.is_local,
    )  # fmt: skip


def agreed(request: Request, consent: bool, version: str | None) -> str | None:
    """The version that a person agrees to. UserError if it is not the present one."""
    if not consent:
        return None
    terms = _terms(request)
    if terms is None:
        raise UserError("consent: this server keeps nothing")
    if version != terms[0]:
        raise UserError("the text about what is kept has changed. Load the page again and read it")
    return version


def _key(db: Session, person: CurrentPerson, key_id: int) -> ApiKey:
    """A key of the person, or any key for an administrator. 404 for others."""
    key = db.get(ApiKey, key_id)
    if key is None or key.deleted is not None or (key.person_id != person.id and not person.admin):
        raise HTTPException(404, "You have no such key.")
    return key


def _forget(request: Request) -> None:
    """Look keys up again. The routes of this module run in threads, and a dictionary may be cleared from there."""
    request.app.state.callers.forget()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _terms(request: Request) -> Terms | None:
    return _service(request).collector.terms()
