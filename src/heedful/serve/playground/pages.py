"""The pages of the playground: a new conversation, and a stored one."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.collection import react
from heedful.feedback import keys
from heedful.feedback.tasks import Refused
from heedful.serve.playground import asking
from heedful.serve.playground.api import Serving, Writing, listing, read
from heedful.serve.playground.records import ChatConsent, ChatOut, ChatSettings
from heedful.web.pages import render
from heedful.web.security.access import CurrentPerson, Now, SignedIn, Stored
from heedful.web.text import markdown

router = APIRouter()
render.include(Path(__file__).parent)


@router.get("/", include_in_schema=False)
def new(request: Request, person: SignedIn, store: Stored, service: Serving, now: Now) -> Response:
    """The page of a new conversation."""
    return _page(request, person, store, service, now, None)


@router.get("/chat/{ref}", include_in_schema=False)
def stored(
    request: Request, person: SignedIn, store: Stored, service: Serving, answers: Writing, now: Now, ref: str
) -> Response:
    """The page of a conversation."""
    return _page(request, person, store, service, now, read(store, answers, person, ref, now))


@router.post("/api/playground/consent", status_code=204, tags=["playground"])
def agree(request: Request, person: SignedIn, store: Stored, service: Serving, now: Now, body: ChatConsent) -> None:
    """Agree that your conversations on this page are stored, or (null) withdraw it."""
    terms = service.collector.terms()
    if body.version is not None and (terms is None or terms[0] != body.version):
        raise Refused("consent", "The text has changed meanwhile. Load the page and read it again.")
    with store.writing() as db:
        keys.agree(keys.of_pages(db, person.id, now), body.version, now)
    request.app.state.callers.forget()


def _page(
    request: Request, person: CurrentPerson, store: Stored, service: Serving, now: Now, chat: ChatOut | None
) -> Response:
    with store.writing() as db:
        caller = asking.caller_of(db, person, now)
    terms = service.collector.terms()
    state = {
        "models": list(service.models),
        "alone": [name for name, model in service.models.items() if model.one_message],
        "chat": chat.model_dump() if chat else None,
        "chats": [one.model_dump(mode="json") for one in listing(person, store)],
        "defaults": ChatSettings().model_dump(),
        "terms": terms[0] if terms else None,
        "agreed": asking.agreed(service, caller),
        "reasons": {
            "up": [(name, react.REASONS[name]) for name in react.GOOD],
            "down": [(name, react.REASONS[name]) for name in react.BAD],
        },
    }
    return render.page(
        request,
        "chat/chat.html",
        state=json.dumps(state),
        title=chat.title if chat else "New chat",
        terms=markdown.as_html(terms.text) if terms else None,
        days=terms.days if terms else None,
    )
