"""Routes for programs with a key: react to answers, and see and delete what is kept.

They also work for a person who is signed in on this server's pages.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from heedful.collection import forget, react
from heedful.collection import store as collected
from heedful.collection.store import Kept
from heedful.config import UserError
from heedful.serve.answering import Service
from heedful.serve.callers import Callers
from heedful.serve.openai import may_not_store
from heedful.serve.types import Caller
from heedful.web.api.base import Body, Out
from heedful.web.security.access import Now, Settings, Stored

router = APIRouter(prefix="/v1", tags=["collection"])
Name = Annotated[str, Field(max_length=100)]
Words = Annotated[str, Field(max_length=1_000_000)]


async def caller_of(request: Request) -> Caller:
    callers: Callers = request.app.state.callers
    return await callers.find(request)


Calling = Annotated[Caller, Depends(caller_of)]


class Thumb(Body):
    up: bool
    reasons: list[str] = Field([], max_length=20)
    """Keys such as helpful, correct, wrong, not_followed, unsafe. A wrong one is answered with all of them."""
    comment: str | None = None
    answer: int = 0
    """The index of one of several answers."""


class Edit(Body):
    text: Words
    """The answer as it should be."""
    answer: int = 0


class Side(Body):
    text: Words
    model: str = Field(max_length=200)
    settings: dict[str, Any] = {}


class Pick(Body):
    prompt: Words | list[dict[str, Any]]
    left: Side
    right: Side
    outcome: react.Outcome
    blind: bool
    """Whether the user knew neither model before the choice."""
    user: str | None = Field(None, max_length=200)
    """Your own user."""
    key: str | None = Field(None, min_length=1, max_length=90)
    """New for each pick. Send the same again if no answer came: the pick is stored once."""


class Reaction(Out):
    ref: str
    """Names the reaction, to take it back."""
    repeated: bool
    """Whether it stood already."""


class Deleted(Out):
    deleted_snapshots: list[str]
    used: list[dict[str, Any]]
    """Snapshots that hold some and stay, with the runs that read them."""
    cleared_files: list[str]
    """Files of rounds that lost it."""
    used_files: list[dict[str, Any]]
    """Files of rounds that hold some and stay, with the runs that read them."""


@router.post("/exchanges/{exchange_id}/thumb")
def thumb(caller: Calling, store: Stored, now: Now, exchange_id: Name, body: Thumb) -> Reaction:
    """Rate an answer: up or down."""
    with store.writing() as db:
        made = react.thumb(
            db, exchange_id, caller.name, body.up, body.reasons, body.comment, now=now, answer=body.answer
        )  # fmt: skip
    return Reaction.model_validate(made)


@router.post("/exchanges/{exchange_id}/edit")
def edit(caller: Calling, store: Stored, now: Now, exchange_id: Name, body: Edit) -> Reaction:
    """Write the answer as it should be."""
    with store.writing() as db:
        made = react.edit(db, exchange_id, caller.name, body.text, now=now, answer=body.answer)
    return Reaction.model_validate(made)


@router.post("/picks")
def pick(request: Request, caller: Calling, store: Stored, now: Now, body: Pick) -> Reaction:
    """Choose between two answers side by side. The key needs consent."""
    service: Service = request.app.state.service
    terms = service.collector.terms()
    if terms is None or caller.consent != terms[0] or may_not_store(request):
        raise UserError("nothing may be kept of this request. Agree to the storage where you made the key")
    user = f"{caller.name}/{body.user}" if body.user else caller.name
    left, right = (react.Side(side.text, side.model, side.settings) for side in (body.left, body.right))
    with store.writing() as db:
        made = react.pick(
            db, user, body.prompt, left, right, body.outcome, blind=body.blind, now=now, key=body.key
        )  # fmt: skip
    return Reaction.model_validate(made)


@router.delete("/reactions/{ref}", status_code=204)
def undo(caller: Calling, store: Stored, now: Now, ref: Name) -> None:
    """Take a thumb, an edit or a pick back."""
    with store.writing() as db:
        react.undo(db, caller.name, ref, now)


@router.get("/exchanges")
def exchanges(
    caller: Calling, store: Stored, before: Name | None = None, limit: Annotated[int, Field(ge=1, le=100)] = 50
) -> list[dict[str, Any]]:
    """What is kept of your account and its users, newest first. `before`: an id, for the next page."""
    with store.reading() as db:
        return [row_of(kept) for kept in collected.of_user(db, caller.name, before=before, limit=limit)]


@router.get("/picks")
def picks(caller: Calling, store: Stored) -> list[dict[str, Any]]:
    """Your choices between two answers."""
    with store.reading() as db:
        found = collected.picks_of_user(db, caller.name)
    return [{"ref": ref, **payload, **content} for ref, payload, content in found]


@router.delete("/picks/{ref}")
def delete_pick(caller: Calling, store: Stored, settings: Settings, now: Now, ref: Name) -> Deleted:
    """Delete a choice between two answers."""
    with store.reading() as db:
        known = {mine for mine, _, _ in collected.picks_of_user(db, caller.name)}
    if ref not in known:
        raise UserError(f"{ref}: no choice of yours is stored under this name")
    return Deleted.model_validate(
        collected.delete_several(store, caller.name, [], [ref], [settings.folder], now).row()
    )  # fmt: skip


@router.delete("/exchanges/{exchange_id}")
def delete(caller: Calling, store: Stored, settings: Settings, now: Now, exchange_id: Name) -> Deleted:
    """Delete an exchange, the reactions to it, and what was made of it."""
    return Deleted.model_validate(collected.delete(store, caller.name, exchange_id, [settings.folder], now).row())


@router.delete("/exchanges")
def delete_all(caller: Calling, store: Stored, settings: Settings, now: Now) -> dict[str, Any]:
    """Delete all that is kept of your account and its users."""
    return forget.forget(store, caller.name, [settings.folder], now, by=caller.person_id).row()


def row_of(kept: Kept) -> dict[str, Any]:
    """An exchange as its user gets it."""
    one = kept.exchange
    told = ("id", "prompt", "answers", "finish", "settings", "consent")
    started: datetime = one.started
    reactions = [{"kind": kind, **content} for kind, content in kept.reactions]
    return {
        **{name: getattr(one, name) for name in told}, "model": kept.model, "user": kept.user,
        "started": started.isoformat(), "reactions": reactions,
    }  # fmt: skip
