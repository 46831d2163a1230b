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
from pydantic import Field

from heedful.feedback import people, projects
from heedful.feedback.schema import Phase, Role, TokenKind
from heedful.feedback.store import Store
from heedful.web.settings import WebSettings

COOKIE = "heedful_session"


class NotSignedIn(Exception):
    """Pages lead to the sign-in page and back; the API answers 401."""


def is_api_path(path: str) -> bool:
    return path.startswith("/api/")


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


Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A number in an address: beyond it a database has none to compare with."""
Stored = Annotated[Store, Depends(get_store)]
Settings = Annotated[WebSettings, Depends(get_settings)]
Now = Annotated[datetime, Depends(get_now)]


class _Roles:
    """Lets those with one of the roles pass; who is not in the project learns nothing of it (404)."""

    def __init__(self, *roles: Role, joined: bool = False) -> None:
        self.roles, self.joined = roles, joined

    def __call__(self, project: str, request: Request, store: Stored, now: Now) -> Member:
        shown, found = _secret(request), None
        if shown is not None:
            name = project if projects.NAME.fullmatch(project) else ""
            with store.reading() as db:
                found = people.visitor(db, *shown, name, now)
        if found is None:
            request.state.person = None
            raise NotSignedIn
        person = request.state.person = Person(found.id, found.name, found.admin)
        if found.project_id is None or (found.role is None and not person.admin):
            raise HTTPException(404)
        role = found.role if found.role and not person.admin else "lead"
        if role not in self.roles or (self.joined and found.role is None):
            raise HTTPException(403)
        paused, archived = found.paused is not None, found.archived is not None
        member = Member(
            person, found.project_id, found.project, found.title, role, found.phase or "work", paused, archived
        )
        request.state.member = member
        return member


def _secret(request: Request) -> tuple[str, TokenKind] | None:
    """A bearer token where one is shown, else the session's cookie; never the other where one is wrong."""
    header, cookie = request.headers.get("authorization"), request.cookies.get(COOKIE)
    if header is not None:
        scheme, _, secret = header.partition(" ")
        return (secret.strip(), "api") if scheme.lower() == "bearer" and is_api_path(request.url.path) else None
    return (cookie, "session") if cookie else None


def maybe_signed_in(request: Request, store: Stored, now: Now) -> Person | None:
    shown, found = _secret(request), None
    if shown is not None:
        with store.reading() as db:
            found = people.person_of(db, *shown, now)
    person = request.state.person = Person(found.id, found.name, found.admin) if found else None
    return person


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
