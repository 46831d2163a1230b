"""Who asks: a program with a key, or a person on this server's pages."""

from __future__ import annotations

import time
from datetime import datetime

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from heedful.feedback import keys, people
from heedful.feedback.schema import ApiKey, Person
from heedful.feedback.store import Store
from heedful.serve.types import ApiError, Caller
from heedful.web.security.access import PERSON, get_now, session_cookie

REMEMBERED_SECONDS = 1.0  # so long a change by another process may take to act
MOST_REMEMBERED = 10_000

NO_KEY = "No API key. Send one in the header 'Authorization: Bearer KEY'. You make keys on this server's page Keys."
WRONG_KEY = "This API key is not valid."
SUSPENDED = "This API key is suspended."


class Callers:
    """Finds callers, and remembers them for a moment: a busy client asks many times a second."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[str, str], tuple[float, Caller]] = {}

    async def find(self, request: Request) -> Caller:
        """Who sends a request. Raises ApiError 401 or 403."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        kind, shown = ("key", secret.strip()) if scheme.lower() == "bearer" else ("session", session_cookie(request))
        if not shown:
            raise ApiError(401, NO_KEY, code="invalid_api_key")
        found = self._known.get((kind, people.hashed(shown)))
        if found is None or found[0] < time.monotonic():
            look = self._of_key if kind == "key" else self._of_session
            caller = await run_in_threadpool(look, shown, await get_now(request))
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[kind, people.hashed(shown)] = (time.monotonic() + REMEMBERED_SECONDS, caller)
        else:
            caller = found[1]
        if kind == "session" and request.headers.get(PERSON, str(caller.person_id)) != str(caller.person_id):
            raise ApiError(401, "Another account is signed in on this browser. Load the page again.")
        return caller

    def forget(self) -> None:
        """Look everybody up again: a key has changed."""
        self._known.clear()

    def _of_key(self, secret: str, now: datetime) -> Caller:
        with self.store.reading() as db:
            found = keys.of_secret(db, secret)
        if found is None:
            raise ApiError(401, WRONG_KEY, code="invalid_api_key")
        return caller_of(*found)

    def _of_session(self, secret: str, now: datetime) -> Caller:
        with self.store.reading() as db:
            person = people.person_of(db, secret, "session", now)
            key = keys.find_of_pages(db, person.id) if person is not None else None
        if person is None:
            raise ApiError(401, "Your session has ended. Sign in again.", code="invalid_api_key")
        if key is None:
            with self.store.writing() as db:
                key = keys.of_pages(db, person.id, now)
        return caller_of(key, person)


def caller_of(key: ApiKey, person: Person) -> Caller:
    """Raises ApiError 403 for a key that is suspended."""
    if key.suspended is not None:
        why = f" {key.suspended_why}" if key.suspended_why else ""
        raise ApiError(403, f"{SUSPENDED}{why}", code="key_suspended")
    return Caller(person.id, person.name, key.id, key.consent, key.requests_a_minute, key.tokens_a_day, person.admin)


def pages_caller(db: Session, person: Person, now: datetime) -> Caller:
    """The caller that a person is on this server's pages. Raises ApiError 403 if they are suspended there."""
    return caller_of(keys.of_pages(db, person.id, now), person)
