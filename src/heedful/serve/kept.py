"""The page on which people read what is kept of them, and delete it. They can also download all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from heedful.collection import react
from heedful.collection import store as collected
from heedful.collection.store import Kept
from heedful.config import UserError
from heedful.data.records import Prompt, as_text
from heedful.feedback import chats
from heedful.feedback.store import Store
from heedful.serve.collected import row_of
from heedful.serve.playground.api import NDJSON, line
from heedful.web.pages import render
from heedful.web.security.access import CurrentPerson, SignedIn, Stored
from heedful.web.text import sanitise

pages = APIRouter(include_in_schema=False)
router = APIRouter(prefix="/api", tags=["collection"])
LISTED = 30
EXCERPT = 1_000
"""Characters of a text. `GET /v1/exchanges` has all of it."""


@pages.get("/kept")
def page(request: Request, person: SignedIn, store: Stored, before: str = "") -> Response:
    """What is kept of a person and of the users whom their programs name, the newest first."""
    with store.reading() as db:
        try:
            found = collected.of_user(db, person.name, before=before or None, limit=LISTED + 1)
        except UserError:  # the last one of the page before was deleted
            found = collected.of_user(db, person.name, limit=LISTED + 1)
        picks = collected.picks_of_user(db, person.name)
        talked = bool(chats.of_person(db, person.id, 1))
    rows = [_row(kept) for kept in found[:LISTED]]
    return render.page(
        request, "serve/kept.html", rows=rows, picks=[(ref, _shown(payload["prompt"]), content["outcome"])
        for ref, payload, content in picks], chats=talked,
        next=found[LISTED - 1].exchange.id if len(found) > LISTED else None,
        terms=request.app.state.service.collector.terms(),
    )  # fmt: skip


@router.get("/kept")
def download(person: SignedIn, store: Stored) -> StreamingResponse:
    """All that is kept of you, as JSON Lines: exchanges with reactions, choices, and chats with all their branches."""
    named = {"Content-Disposition": 'attachment; filename="kept.jsonl"'}
    return StreamingResponse(_everything(store, person), media_type=NDJSON, headers=named)


def _everything(store: Store, person: CurrentPerson) -> Iterator[str]:
    for kept in collected.all_of_user(store, person.name):
        yield line({"kind": "exchange", **row_of(kept)})
    with store.reading() as db:
        picks = collected.picks_of_user(db, person.name)
    for ref, payload, content in picks:
        yield line({"kind": "pick", "ref": ref, **payload, **content})
    with store.reading() as db:
        refs = chats.refs(db, person.id)
    for ref in refs:
        with store.reading() as db:
            chat = chats.by_ref(db, person.id, ref)
            row = None if chat is None else chats.row(db, chat)  # it may be deleted meanwhile
        if row is not None:
            yield line({"kind": "chat", **row})


def _row(kept: Kept) -> dict[str, Any]:
    one = kept.exchange
    turns = [{"content": one.prompt}] if isinstance(one.prompt, str) else one.prompt
    return {
        "id": one.id, "user": kept.user, "model": kept.model, "when": one.started, "turns": len(turns),
        "asked": _shown(turns[-1].get("content") or turns), "answers": [_shown(text) for text in one.answers],
        "reactions": [_reaction(kind, content) for kind, content in kept.reactions],
        "said": [_shown(text) for _, content in kept.reactions for text in (content.get("comment"),) if text],
        "better": [_shown(content["text"]) for kind, content in kept.reactions if kind == "edit"],
    }  # fmt: skip


def _reaction(kind: str, content: dict[str, Any]) -> str:
    if kind == "thumb":
        thumb = "thumb up" if content.get("up") else "thumb down"
        reasons = ", ".join(react.REASONS.get(one, one) for one in content.get("reasons") or ())
        return f"{thumb} ({reasons.lower()})" if reasons else thumb
    return {"edit": "an improvement"}.get(kind, kind)


def _shown(value: Any) -> str:
    """A prompt or an answer as plain text, bounded."""
    if not isinstance(value, str):
        try:
            value = as_text(Prompt.model_validate({"prompt": value}).prompt)
        except ValidationError:  # parts of an upstream's own
            value = json.dumps(value, ensure_ascii=False)
    text = value if len(value) <= EXCERPT else f"{value[:EXCERPT]} …"
    return str(sanitise.plain(text))
