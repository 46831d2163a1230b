"""The pages on the way in: sign-in, invitations, passwords, the account, the list of projects."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from heedful.feedback import people, projects
from heedful.feedback.schema import Invitation, Project
from heedful.web.pages.errors import answer
from heedful.web.pages.render import page
from heedful.web.security.access import Anyone, Now, SignedIn, Stored, home_of, root_of

router = APIRouter(include_in_schema=False)
ROLE_WORDS = {
    "lead": "You are invited to lead this project. You decide what labelers are asked, and you see everything.",
    "labeler": "You are invited to write and judge answers. Your work here teaches a language model.",
    "held_out": "You are invited to judge answers. Your work here measures a language model, and never teaches it.",
    "reader": "You are invited to look at this project: its queue, its agreement and its snapshots.",
}


@router.get("/")
def home(request: Request, person: SignedIn, store: Stored) -> Response:
    """Redirects to the only project of a person, else to their list."""
    with store.reading() as db:
        mine = people.memberships(db, person.id)
        if len(mine) == 1 and not person.admin:
            name = db.get_one(Project, mine[0].project_id).name
            return RedirectResponse(home_of(root_of(request), mine[0].role, name), 303)
    return RedirectResponse(f"{root_of(request)}/projects", 303)


@router.get("/login")
def login(request: Request, person: Anyone, next: str = "") -> Response:
    """The sign-in page."""
    after = _local(root_of(request), next)
    return RedirectResponse(after, 303) if person else page(request, "entry/login.html", next=after)


@router.get("/join/{token}")
def join(request: Request, store: Stored, now: Now, person: Anyone, token: str) -> Response:
    """The page of an invitation."""
    with store.reading() as db:
        invitation = people.open_invitation(db, token, now)
        if invitation is None:
            return _used(request)
        return page(request, "entry/join.html", token=token, **_welcome(db, invitation))


@router.get("/password/{token}")
def password(request: Request, store: Stored, now: Now, token: str) -> Response:
    """The page of a link to a new password."""
    with store.reading() as db:
        person = people.person_of(db, token, "password", now)
    if person is None:
        return _used(request)
    return page(request, "entry/password.html", name=person.name, token=token)


@router.get("/projects")
def project_list(request: Request, store: Stored, person: SignedIn) -> Response:
    """The projects of a person. Administrators see all, and a form for a new one."""
    with store.reading() as db:
        roles = {membership.project_id: membership.role for membership in people.memberships(db, person.id)}
        mine = [project for project in projects.listing(db) if person.admin or project.id in roles]
    return page(request, "entry/projects.html", projects=mine, roles=roles)


@router.get("/account")
def account(request: Request, store: Stored, person: SignedIn) -> Response:
    """Password and tokens."""
    with store.reading() as db:
        tokens = people.tokens(db, person.id)
    return page(request, "entry/account.html", tokens=tokens, projects=getattr(request.app.state, "projects", True))


def _welcome(db: Session, invitation: Invitation) -> dict[str, Any]:
    if invitation.project_id is None and invitation.role != "lead":
        words = "Create your account. You can then ask the models of this server."
        return {"title": "Welcome to heedful", "words": words, "button": "Create account"}
    if invitation.project_id is None:
        words = "Create your admin account. You can then create projects and invite people."
        return {"title": "Welcome to heedful", "words": words, "button": "Create account"}
    project = db.get_one(Project, invitation.project_id)
    return {"title": project.title, "words": ROLE_WORDS[invitation.role], "button": "Join"}


def _used(request: Request) -> Response:
    return answer(request, 404, "This link was used, was withdrawn, or is too old. Ask for a new one.")


def _local(root: str, address: str) -> str:
    """The address if it is one of this server, else its start: the sign-in page leads nobody to another site."""
    below = address.removeprefix(root) if address.startswith(root) else ""
    safe = below.startswith("/") and not below.startswith("//") and not set(below) & set("\\{}")
    # ".." or "%2e." would lead out of the part of the proxy's addresses that is ours
    return (
        address if safe and below.isprintable() and "/.." not in below and "/%2e" not in below.lower() else f"{root}/"
    )
