"""What routes ask for: the store, the time, who is there and what she may do here.

    def page(member: AsLead, store: Stored, now: Now) -> HTMLResponse: ...

Handlers are plain functions (FastAPI runs them in its thread pool) and open their own transaction,
`with store.writing() as db:`, so that what they answer is already durable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from heedful.feedback import people, projects
from heedful.feedback.store import Store
from heedful.web.errors import NotSignedIn
from heedful.web.settings import WebSettings

COOKIE = "heedful_session"


@dataclass(frozen=True)
class Person:
    """Who is signed in."""

    id: int
    name: str


@dataclass(frozen=True)
class Member:
    """A person in the project of the address; `role`: lead, labeler, held_out or reader."""

    person: Person
    project_id: int
    project: str  # its name in addresses
    title: str
    role: str
    paused: bool


def get_store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def get_settings(request: Request) -> WebSettings:
    settings: WebSettings = request.app.state.settings
    return settings


def get_now(request: Request) -> datetime:
    """The time, aware and in UTC; tests set `app.state.clock`."""
    clock: Callable[[], datetime] | None = getattr(request.app.state, "clock", None)
    return clock() if clock else datetime.now(UTC)


Stored = Annotated[Store, Depends(get_store)]
Settings = Annotated[WebSettings, Depends(get_settings)]
Now = Annotated[datetime, Depends(get_now)]
