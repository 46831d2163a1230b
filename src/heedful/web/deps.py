"""What routes ask for: the store, the time, who is there and what she may do here.

    def page(member: AsLead, store: Stored, now: Now) -> HTMLResponse: ...

Handlers are plain functions (FastAPI runs them in its thread pool) and open their own transaction,
`with store.writing() as db:`, so that what they answer is already durable. What never waits is `async`: no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from sqlalchemy.orm import Session

from heedful.feedback import people, projects
from heedful.feedback.schema import Phase, Role
from heedful.feedback.store import Store
from heedful.web.errors import NotSignedIn, is_api_path
from heedful.web.settings import WebSettings

COOKIE = "heedful_session"


@dataclass(frozen=True)
class Person:
    """Who is signed in; `admin`: founds projects, and leads all of them."""

    id: int
    name: str
    admin: bool = False


@dataclass(frozen=True)
class Member:
    """A person in the project of the address."""

    person: Person
    project_id: int
    project: str  # its name in addresses
    title: str
    role: Role
    phase: Phase
    paused: bool
    archived: bool


async def get_store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def get_settings(request: Request) -> WebSettings:
    settings: WebSettings = request.app.state.settings
    return settings


async def get_now(request: Request) -> datetime:
    """The time, aware and in UTC; tests set `app.state.clock`."""
    clock: Callable[[], datetime] | None = getattr(request.app.state, "clock", None)
    return clock() if clock else datetime.now(UTC)


Stored = Annotated[Store, Depends(get_store)]
Settings = Annotated[WebSettings, Depends(get_settings)]
Now = Annotated[datetime, Depends(get_now)]


class _Roles:
    """Lets those with one of the roles pass; who is not in the project learns nothing of it (404)."""

    def __init__(self, *roles: Role, joined: bool = False) -> None:
        self.roles, self.joined = roles, joined

    def __call__(self, project: str, request: Request, store: Stored, now: Now) -> Member:
        with store.reading() as db:
            person = _identify(db, request, now)
            if person is None:
                raise NotSignedIn
            found = projects.by_name(db, project) if projects.NAME.fullmatch(project) else None
            membership = people.membership(db, found.id, person.id) if found else None
        if found is None or (membership is None and not person.admin):
            raise HTTPException(404)
        role = membership.role if membership and not person.admin else "lead"
        if role not in self.roles or (self.joined and membership is None):
            raise HTTPException(403)
        phase, paused = (membership.phase, membership.paused) if membership else ("work", None)
        archived = found.archived is not None
        member = Member(person, found.id, found.name, found.title, role, phase, paused is not None, archived)
        request.state.member = member
        return member


def _identify(db: Session, request: Request, now: datetime) -> Person | None:
    """By a bearer token where one is shown, else by the session's cookie; never by the other where one is wrong."""
    header, cookie = request.headers.get("authorization"), request.cookies.get(COOKIE)
    found = None
    if header is not None:
        scheme, _, secret = header.partition(" ")
        if scheme.lower() == "bearer" and is_api_path(request.url.path):
            found = people.person_of(db, secret.strip(), "api", now)
    elif cookie:
        found = people.person_of(db, cookie, "session", now)
    person = Person(found.id, found.name, found.admin) if found else None
    request.state.person = person
    return person


def maybe_signed_in(request: Request, store: Stored, now: Now) -> Person | None:
    with store.reading() as db:
        return _identify(db, request, now)


def signed_in(person: Annotated[Person | None, Depends(maybe_signed_in)]) -> Person:
    if person is None:
        raise NotSignedIn
    return person


def administrator(person: Annotated[Person, Depends(signed_in)]) -> Person:
    if not person.admin:
        raise HTTPException(403)
    return person


Anyone = Annotated[Person | None, Depends(maybe_signed_in)]
SignedIn = Annotated[Person, Depends(signed_in)]
AsAdmin = Annotated[Person, Depends(administrator)]
AsLead = Annotated[Member, Depends(_Roles("lead"))]
AsReader = Annotated[Member, Depends(_Roles("lead", "reader"))]
AsLabeler = Annotated[Member, Depends(_Roles("labeler", "held_out", "lead", joined=True))]
"""Who works on items; a lead may, where she is a member."""
AsMember = Annotated[Member, Depends(_Roles("lead", "labeler", "held_out", "reader"))]
