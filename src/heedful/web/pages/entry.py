"""The way in: sign in and out, invitations, one's account and tokens, the list of projects."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import people, projects
from heedful.feedback.schema import Invitation, Project
from heedful.web.new_project import found
from heedful.web.pages.errors import answer
from heedful.web.pages.render import page
from heedful.web.security import passwords
from heedful.web.security.access import COOKIE, Anyone, AsAdmin, Id, Now, Settings, SignedIn, Stored
from heedful.web.settings import WebSettings

router = APIRouter(include_in_schema=False)
Field = Annotated[str, Form(max_length=2000)]
ROLE_WORDS = {
    "lead": "You are invited to lead this project: to decide what is asked, of whom, and to see everything.",
    "labeler": "You are invited to write and judge answers. What you do here teaches a language model.",
    "held_out": "You are invited to judge answers. What you do here measures a language model, and never teaches it.",
    "reader": "You are invited to look at this project: its queue, its agreement and its snapshots.",
}


def see_other(address: str) -> RedirectResponse:
    return RedirectResponse(address, 303)


def home_of(role: str, name: str) -> str:
    return f"/lead/{name}" if role in ("lead", "reader") else f"/work/{name}"


@router.get("/")
def home(person: SignedIn, store: Stored) -> Response:
    with store.reading() as db:
        mine = people.memberships(db, person.id)
        if len(mine) == 1 and not person.admin:
            return see_other(home_of(mine[0].role, db.get_one(Project, mine[0].project_id).name))
    return see_other("/projects")


@router.get("/login")
def login_page(request: Request, person: Anyone, next: str = "/") -> Response:
    return (
        see_other(_local(next)) if person else page(request, "entry/login.html", next=_local(next), name="", problem="")
    )


@router.post("/login")
def login(
    request: Request, store: Stored, settings: Settings, now: Now, name: Field, password: Field, next: Field = "/"
) -> Response:
    """The same answer, after the same work, whether the name or the password is wrong."""
    tries: passwords.Tries = request.app.state.tries
    keys = (f"name {name.casefold()}", f"from {request.client.host if request.client else ''}")

    def refused(status: int, problem: str) -> Response:
        return page(request, "entry/login.html", status, next=_local(next), name=name, problem=problem)

    wait = tries.wait(keys, time.monotonic())
    if wait > 0:
        response = refused(429, f"Too many wrong passwords. Try again in {_spoken(wait)}.")
        response.headers["Retry-After"] = str(int(wait) + 1)
        return response
    with store.reading() as db:
        known = people.person_named(db, name)
    if not passwords.is_right(known.password_hash if known else None, password) or known is None:
        tries.wrong(keys, time.monotonic())
        with store.writing() as db:
            people.audit(db, known.id if known else None, "wrong password", "sign-in", now=now)
        return refused(401, "Name or password is wrong.")
    tries.right(keys[:1])
    with store.writing() as db:
        people.forget_expired(db, now)
        people.audit(db, known.id, "sign in", f"person {known.id}", now=now)
        secret = _session(db, known.id, settings, now)
    return _signed_in(see_other(_local(next)), secret, settings)


@router.post("/logout")
def logout(request: Request, store: Stored) -> Response:
    secret = request.cookies.get(COOKIE)
    if secret:
        with store.writing() as db:
            people.revoke(db, secret)
    response = see_other("/login")
    response.delete_cookie(COOKIE, path="/")
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@router.get("/join/{token}")
def join_page(request: Request, store: Stored, now: Now, person: Anyone, token: str) -> Response:
    with store.reading() as db:
        invitation = people.open_invitation(db, token, now)
        if invitation is None:
            return _no_invitation(request)
        return page(request, "entry/join.html", name="", problem="", **_welcome(db, invitation))


@router.post("/join/{token}")
def join(
    request: Request,
    store: Stored,
    settings: Settings,
    now: Now,
    person: Anyone,
    token: str,
    name: Field = "",
    password: Field = "",
) -> Response:
    """Makes the account where nobody is signed in, and uses the invitation up, in one transaction."""
    with store.reading() as db:
        invitation = people.open_invitation(db, token, now)
        if invitation is None:
            return _no_invitation(request)
        welcome = _welcome(db, invitation)
    secret = None
    try:
        password_hash = passwords.hash_password(password) if person is None else ""
        with store.writing() as db:
            who = person.id if person else people.add_person(db, name, password_hash, now).id
            membership = people.accept(db, token, who, now)
            there = "/projects"
            if membership is not None:
                there = home_of(membership.role, db.get_one(Project, membership.project_id).name)
            if person is None:
                secret = _session(db, who, settings, now)
    except UserError as error:
        return page(request, "entry/join.html", 400, name=name, problem=str(error), **welcome)
    response = see_other(there)
    return _signed_in(response, secret, settings) if secret else response


@router.get("/password/{token}")
def password_page(request: Request, store: Stored, now: Now, token: str) -> Response:
    """Where a lead's link leads to."""
    with store.reading() as db:
        person = people.person_of(db, token, "password", now)
    if person is None:
        return _no_invitation(request)
    return page(request, "entry/password.html", name=person.name, problem="")


@router.post("/password/{token}")
def choose_password(request: Request, store: Stored, now: Now, token: str, password: Field = "") -> Response:
    """Uses the link up and ends the account's sessions and tokens."""
    with store.reading() as db:
        person = people.person_of(db, token, "password", now)
    if person is None:
        return _no_invitation(request)
    try:
        password_hash = passwords.hash_password(password)
    except UserError as error:
        return page(request, "entry/password.html", 400, name=person.name, problem=str(error))
    with store.writing() as db:
        if people.person_of(db, token, "password", now) is None:
            return _no_invitation(request)
        people.set_password(db, person.id, password_hash, now, by=person.id)
    return see_other("/login")


@router.get("/projects")
def project_list(request: Request, store: Stored, person: SignedIn) -> Response:
    with store.reading() as db:
        roles = {membership.project_id: membership.role for membership in people.memberships(db, person.id)}
        mine = [project for project in projects.listing(db) if person.admin or project.id in roles]
    return page(request, "entry/projects.html", projects=mine, roles=roles, problem="", name="", title="")


@router.post("/projects")
def found_project(
    request: Request, store: Stored, now: Now, person: AsAdmin, name: Field = "", title: Field = ""
) -> Response:
    with store.writing() as db:
        project = found(db, name.strip(), title, now, by=person.id)
    return see_other(f"/lead/{project.name}")


@router.get("/account")
def account(request: Request, store: Stored, person: SignedIn) -> Response:
    with store.reading() as db:
        return page(request, "entry/account.html", tokens=people.tokens(db, person.id), secret="", problem="", done="")


@router.post("/account/password")
def change_password(
    request: Request, store: Stored, settings: Settings, now: Now, person: SignedIn, old: Field, password: Field
) -> Response:
    """Ends all other sessions, and the tokens."""
    tries: passwords.Tries = request.app.state.tries
    keys = (f"name {person.name.casefold()}",)
    with store.reading() as db:
        known, tokens = people.person_named(db, person.name), people.tokens(db, person.id)
    problem = ""
    if tries.wait(keys, time.monotonic()) > 0:
        problem = "Too many wrong passwords; wait a moment."
    elif not passwords.is_right(known.password_hash if known else None, old):
        tries.wrong(keys, time.monotonic())
        problem = "The old password is wrong."
    if problem:
        return page(request, "entry/account.html", 400, tokens=tokens, secret="", problem=problem, done="")
    password_hash = passwords.hash_password(password)
    with store.writing() as db:
        people.set_password(db, person.id, password_hash, now, by=person.id)
        secret = _session(db, person.id, settings, now)
    done = "Your password is changed, and you are signed out everywhere else."
    if tokens:
        done += " Your tokens for scripts have ended, too; make new ones."
    response = page(request, "entry/account.html", tokens=[], secret="", problem="", done=done)
    return _signed_in(response, secret, settings)


@router.post("/account/tokens")
def new_token(request: Request, store: Stored, now: Now, person: SignedIn, name: Field = "") -> Response:
    with store.writing() as db:
        _, secret = people.new_token(db, person.id, "api", now, name=name or "token")
        tokens = people.tokens(db, person.id)
    return page(request, "entry/account.html", tokens=tokens, secret=secret, problem="", done="")


@router.post("/account/tokens/{token_id}/revoke")
def revoke_token(store: Stored, now: Now, person: SignedIn, token_id: Id) -> Response:
    with store.writing() as db:
        people.revoke_token(db, person.id, token_id, now)
    return see_other("/account")


def _session(db: Session, person_id: int, settings: WebSettings, now: Now) -> str:
    return people.new_token(db, person_id, "session", now, days=settings.session_days)[1]


def _signed_in(response: Response, secret: str, settings: WebSettings) -> Response:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=settings.session_days * 86400,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.secure,
    )
    return response


def _welcome(db: Session, invitation: Invitation) -> dict[str, Any]:
    if invitation.project_id is None:
        words = "Make the first account. It founds projects and invites everybody else."
        return {"title": "Welcome to heedful", "words": words, "button": "Begin"}
    project = db.get_one(Project, invitation.project_id)
    return {"title": project.title, "words": ROLE_WORDS[invitation.role], "button": "Join"}


def _no_invitation(request: Request) -> Response:
    return answer(request, 404, "This link was used, was withdrawn, or is too old. Ask for a new one.")


def _local(address: str) -> str:
    """An address of this server, nothing else: no way to lead people elsewhere through the sign-in page."""
    safe = address.startswith("/") and not address.startswith(("//", "/\\")) and "\\" not in address
    return address if safe and address.isprintable() else "/"


def _spoken(seconds: float) -> str:
    return f"{int(seconds) + 1} seconds" if seconds < 100 else f"{int(seconds / 60) + 1} minutes"
