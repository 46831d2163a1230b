"""Dependencies of routes: the store, the time, the signed-in person and their role.

    def page(member: AsLead, store: Stored, now: Now) -> HTMLResponse: ...

Handlers are plain functions, which FastAPI runs in its thread pool. They open their own transaction,
`with store.writing() as db:`, so that whatever they return is already on the disk. Dependencies that never wait are
`async`: they need no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from pydantic import Field
from sqlalchemy.orm import Session

from heedful.feedback import items, people, projects
from heedful.feedback.columns import digest
from heedful.feedback.schema import Item, Phase, Role, TokenKind
from heedful.feedback.store import Store
from heedful.web.settings import WebSettings

PERSON = "heedful-person"
"""Header in which pages send the number of the person for whom they were made."""


class NotSignedIn(Exception):
    """Pages redirect to the sign-in page and back. The API responds with 401.

    `other`: somebody is signed in, but not the person for whom the page was made that sends the request.
    """

    def __init__(self, *, other: bool = False) -> None:
        self.other = other


def is_api_path(path: str) -> bool:
    return path.startswith("/api/")


@dataclass(frozen=True)
class CurrentPerson:
    """The signed-in person. An administrator creates projects, and leads all of them."""

    id: int
    name: str
    admin: bool = False


@dataclass(frozen=True)
class Member:
    """A person in the project of the address."""

    person: CurrentPerson
    project_id: int
    project: str  # its name in addresses
    title: str
    role: Role
    phase: Phase
    paused: bool
    archived: bool
    root: str
    """The path below which a proxy serves this server, or "". Addresses on pages begin with it."""


async def get_store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def get_settings(request: Request) -> WebSettings:
    settings: WebSettings = request.app.state.settings
    return settings


async def get_now(request: Request) -> datetime:
    """The time in UTC, with its zone. Tests set `app.state.clock`."""
    clock: Callable[[], datetime] | None = getattr(request.app.state, "clock", None)
    return clock() if clock else datetime.now(UTC)


Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A number in an address. The database holds no larger one."""
Stored = Annotated[Store, Depends(get_store)]
Settings = Annotated[WebSettings, Depends(get_settings)]
Now = Annotated[datetime, Depends(get_now)]


class _Roles:
    """Admits members with one of the roles. People outside the project get 404, as if it did not exist."""

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
        check_person(request, found.id)
        person = request.state.person = CurrentPerson(found.id, found.name, found.admin)
        if found.project_id is None or (found.role is None and not person.admin):
            raise HTTPException(404)
        role = found.role if found.role and not person.admin else "lead"
        if role not in self.roles or (self.joined and found.role is None):
            raise HTTPException(403)
        paused, archived = found.paused is not None, found.archived is not None
        member = Member(
            person, found.project_id, found.project, found.title, role, found.phase or "work", paused, archived,
            root_of(request),
        )  # fmt: skip
        request.state.member = member
        return member


def root_of(request: Request) -> str:
    """The path below which a proxy serves this server, or ""."""
    settings: WebSettings = request.app.state.settings
    return settings.root


def cookie_name(store: Store, settings: WebSettings) -> str:
    """The name of the session's cookie. Browsers send a cookie to every port of a host, so that each server needs its
    own name there."""
    return f"heedful_{digest([store.place, settings.base_url])[:10]}"


def session_cookie(request: Request) -> str | None:
    """The secret of the session that the browser shows."""
    return request.cookies.get(request.app.state.cookie)


def check_person(request: Request, person_id: int) -> None:
    """Raises NotSignedIn if the request comes from a page that was made for somebody else."""
    if request.headers.get(PERSON, str(person_id)) != str(person_id):
        raise NotSignedIn(other=True)


def bearer(request: Request) -> str | None:
    """The token that the request shows as `Authorization: Bearer TOKEN`."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _wants_html(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("text/html")


def _secret(request: Request) -> tuple[str, TokenKind] | None:
    """A bearer token if one is shown, else the session's cookie. A wrong token never falls back to the cookie."""
    if "authorization" in request.headers:
        token = bearer(request)
        return (token, "api") if token and is_api_path(request.url.path) else None
    cookie = session_cookie(request)
    return (cookie, "session") if cookie else None


def maybe_signed_in(request: Request, store: Stored, now: Now) -> CurrentPerson | None:
    shown, found = _secret(request), None
    if shown is not None:
        with store.reading() as db:
            found = people.person_of(db, *shown, now)
    person = request.state.person = CurrentPerson(found.id, found.name, found.admin) if found else None
    if person is not None:
        check_person(request, person.id)
    return person


def signed_in(person: Annotated[CurrentPerson | None, Depends(maybe_signed_in)]) -> CurrentPerson:
    if person is None:
        raise NotSignedIn
    return person


def administrator(person: Annotated[CurrentPerson, Depends(signed_in)]) -> CurrentPerson:
    if not person.admin:
        raise HTTPException(403)
    return person


Anyone = Annotated[CurrentPerson | None, Depends(maybe_signed_in)]
SignedIn = Annotated[CurrentPerson, Depends(signed_in)]
AsAdmin = Annotated[CurrentPerson, Depends(administrator)]
AsLead = Annotated[Member, Depends(_Roles("lead"))]
AsReader = Annotated[Member, Depends(_Roles("lead", "reader"))]
AsLabeler = Annotated[Member, Depends(_Roles("labeler", "held_out", "lead", joined=True))]
"""Members who work on items. Leads may, where they are members."""
AsMember = Annotated[Member, Depends(_Roles("lead", "labeler", "held_out", "reader"))]
WantsHtml = Annotated[bool, Depends(_wants_html)]
"""Whether a page's script asks for the part of the page that follows."""


def home_of(root: str, role: str, project: str) -> str:
    """The first page of a member."""
    return f"{root}/lead/{project}" if role in ("lead", "reader") else f"{root}/work/{project}"


def item_of(db: Session, member: Member, ref: str) -> Item:
    """An item of the member's project. 404 for any other."""
    found = items.by_ref(db, member.project_id, ref)
    if found is None:
        raise HTTPException(404)
    return found
