"""The API of accounts: sign in and out, invitations, passwords, tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import people
from heedful.feedback.schema import Person, Project
from heedful.web.api import records
from heedful.web.security import devices, passwords
from heedful.web.security.access import (
    Id,
    Now,
    Settings,
    SignedIn,
    Stored,
    bearer,
    check_person,
    home_of,
    session_cookie,
)
from heedful.web.security.tries import OF_A_DEVICE, Tries, limits
from heedful.web.settings import WebSettings
from heedful.web.text import markdown

router = APIRouter(prefix="/api", tags=["account"])
USED = "this link was used, was withdrawn, or is too old. Ask for a new one"


@router.post("/login", status_code=204)
def login(
    request: Request, response: Response, store: Stored, settings: Settings, now: Now, body: records.Login
) -> None:
    """Start a session in a browser. A wrong name and a wrong password get the same answer after the same work."""
    with store.reading() as db:
        known = people.person_named(db, body.name)
        device = people.device_of(db, known.id, devices.secrets(request), now) if known else None
    counted = limits(body.name, request.client.host if request.client else "", settings.login_tries)
    if device is not None:  # on which nobody else's tries count
        counted = {f"device {device}": OF_A_DEVICE}
    try:
        tries = _begin(request, counted)
    except HTTPException:
        if device is not None:
            with store.writing() as db:
                people.forget_device(db, device)
        raise
    if not passwords.is_right(known.password_hash if known else None, body.password) or known is None:
        with store.writing() as db:
            people.audit(db, known.id if known else None, "wrong password", "sign-in", now=now)
        raise HTTPException(401, "Name or password is wrong.")
    tries.right(counted)
    with store.writing() as db:
        people.forget_expired(db, now)
        people.audit(db, known.id, "sign in", f"person {known.id}", now=now)
        _start_session(db, request, response, known.id, settings, now)


@router.post("/logout", status_code=204)
def logout(request: Request, response: Response, store: Stored, settings: Settings) -> None:
    """End the session of a browser."""
    secret = session_cookie(request)
    if secret:
        with store.writing() as db:
            people.revoke(db, secret)
    response.delete_cookie(request.app.state.cookie, path=settings.root or "/")
    response.headers["Clear-Site-Data"] = '"cache"'


@router.post("/join")
def join(
    request: Request, response: Response, store: Stored, settings: Settings, now: Now, body: records.Joining
) -> records.Joined:
    """Accept an invitation, with a new account unless a session is open.

    A script sends the invitation's token as its bearer token and gets a token of the account. A browser gets a session.
    """
    script = bearer(request)
    secret = script or body.token
    if secret is None:
        raise HTTPException(401, "send the invitation's token as the bearer token")
    with store.reading() as db:
        invitation = people.open_invitation(db, secret, now)
        if invitation is None:
            raise UserError(USED)
        cookie = session_cookie(request)
        member = people.person_of(db, cookie, "session", now) if cookie and not script else None
        if member is not None:
            check_person(request, member.id)
    password_hash = ""
    if member is None:
        if body.name is None or body.password is None:
            raise UserError("a new account needs name and password")
        password_hash = passwords.hash_password(body.password)
    with store.writing() as db:
        person = member.id if member else people.add_person(db, str(body.name), password_hash, now).id
        joined = people.accept(db, secret, person, now)
        token = people.new_token(db, person, "api", now, name="from the invitation")[1] if script else None
        if member is None and not script:
            _start_session(db, request, response, person, settings, now)
        if joined is None:
            return records.Joined(token=token, project=None, role=invitation.role, page=f"{settings.root}/projects")
        project = db.get_one(Project, joined.project_id).name
        return records.Joined(
            token=token, project=project, role=joined.role, page=home_of(settings.root, joined.role, project)
        )


@router.post("/password", status_code=204)
def choose_password(store: Stored, now: Now, body: records.NewPassword) -> None:
    """Choose a new password by a link. Ends the account's sessions and tokens."""
    with store.reading() as db:
        if people.person_of(db, body.token, "password", now) is None:
            raise HTTPException(404, USED)
    password_hash = passwords.hash_password(body.password)
    with store.writing() as db:
        person = people.person_of(db, body.token, "password", now)  # the link may have been used meanwhile
        if person is None:
            raise HTTPException(404, USED)
        people.set_password(db, person.id, password_hash, now, by=person.id)


@router.get("/me")
def me(person: SignedIn, store: Stored) -> records.Me:
    """The account of the token or session, and its projects."""
    with store.reading() as db:
        model = db.get_one(Person, person.id).model
        mine = [(one, db.get_one(Project, one.project_id)) for one in people.memberships(db, person.id)]
    found = [
        records.Membership(project=project.name, title=project.title, role=one.role, paused=one.paused is not None)
        for one, project in mine
    ]
    return records.Me(name=person.name, admin=person.admin, model=model, projects=found)


@router.post("/me/password", status_code=204)
def change_password(
    request: Request,
    response: Response,
    store: Stored,
    settings: Settings,
    now: Now,
    person: SignedIn,
    body: records.PasswordChange,
) -> None:
    """Change the password. Ends all other sessions, and the tokens."""
    counted = {f"account {person.id}": settings.login_tries}
    tries = _begin(request, counted)
    with store.reading() as db:
        known = people.person_named(db, person.name)
    if not passwords.is_right(known.password_hash if known else None, body.old):
        raise UserError("The old password is wrong.")
    tries.right(counted)
    password_hash = passwords.hash_password(body.password)
    with store.writing() as db:
        people.set_password(db, person.id, password_hash, now, by=person.id)
        _start_session(db, request, response, person.id, settings, now)


@router.get("/me/tokens")
def tokens(person: SignedIn, store: Stored) -> list[dict[str, Any]]:
    """Your tokens for scripts: id, name, created."""
    with store.reading() as db:
        return [{"id": one.id, "name": one.name, "created": one.created} for one in people.tokens(db, person.id)]


@router.post("/me/tokens", status_code=201)
def new_token(store: Stored, now: Now, person: SignedIn, body: records.TokenName) -> records.NewToken:
    """Create a token for scripts."""
    with store.writing() as db:
        token, secret = people.new_token(db, person.id, "api", now, name=body.name or "token")
        return records.NewToken(id=token.id, token=secret)


@router.delete("/me/tokens/{token_id}", status_code=204)
def revoke_token(store: Stored, now: Now, person: SignedIn, token_id: Id) -> None:
    """Revoke a token."""
    with store.writing() as db:
        people.revoke_token(db, person.id, token_id, now)


@router.post("/markdown")
def preview(person: SignedIn, body: records.MarkdownText) -> records.MarkdownHtml:
    """Markdown as HTML, as pages show it: no raw HTML, no images, links to http, https and mailto only."""
    return records.MarkdownHtml(html=markdown.as_html(body.text))


def _begin(request: Request, counted: dict[str, int]) -> Tries:
    """Count a try of a password before it is checked. 429 if it has to wait."""
    tries: Tries = request.app.state.tries
    wait = tries.begin(counted)
    if wait > 0:
        spoken = f"{int(wait) + 1} seconds" if wait < 100 else f"{int(wait / 60) + 1} minutes"
        headers = {"Retry-After": str(int(wait) + 1)}
        raise HTTPException(429, f"Too many wrong passwords. Try again in {spoken}.", headers)
    return tries


def _start_session(
    db: Session, request: Request, response: Response, person_id: int, settings: WebSettings, now: Now
) -> None:
    """Start a session, and remember the browser as a device of the account."""
    secret = people.new_token(db, person_id, "session", now, days=settings.session_days)[1]
    devices.set_cookie(request, response, request.app.state.cookie, secret, settings.session_days)
    if people.device_of(db, person_id, devices.secrets(request), now) is None:
        device = people.new_device(db, person_id, now, days=devices.DAYS)
        devices.remember(request, response, device)
