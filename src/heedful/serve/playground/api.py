"""The API of the playground: conversations that are stored."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from heedful.collection import store as collected
from heedful.config import UserError
from heedful.feedback import chats
from heedful.feedback.chats import Conversation, Turn
from heedful.serve.answering import Service
from heedful.serve.playground import asking, view
from heedful.serve.playground.answers import AnswersInProgress, settle
from heedful.serve.playground.asking import AskedTurn
from heedful.serve.playground.records import (
    Again,
    ChatChange,
    ChatLine,
    ChatOut,
    NewChat,
    NewTurn,
    TurnsOut,
)
from heedful.serve.types import Caller
from heedful.web.security.access import CurrentPerson, Id, Now, Settings, SignedIn, Stored

router = APIRouter(prefix="/api/chats", tags=["playground"])
LISTED = 60  # conversations at once
NDJSON = "application/x-ndjson"
REF = re.compile(r"[\w-]{1,24}", re.ASCII)


def get_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def get_answers(request: Request) -> AnswersInProgress:
    answers: AnswersInProgress = request.app.state.answers
    return answers


Serving = Annotated[Service, Depends(get_service)]
Writing = Annotated[AnswersInProgress, Depends(get_answers)]


@router.get("")
def listing(person: SignedIn, store: Stored, after: str | None = None) -> list[ChatLine]:
    """Your conversations, the newest first. `after`: the ref of the last one that you have."""
    with store.reading() as db:
        last = find(db, person, after) if after is not None else None
        return [ChatLine.model_validate(one) for one in chats.of_person(db, person.id, LISTED, last)]


@router.post("", status_code=201)
async def create(
    person: SignedIn, store: Stored, service: Serving, answers: Writing, now: Now, body: NewChat
) -> ChatOut:
    """Create a conversation with its first message, and let models answer. Needs your consent to storing."""
    asking.check_busy(answers, person)

    def write() -> tuple[Caller, list[AskedTurn], ChatOut]:
        with store.writing() as db:
            caller = asking.caller_of(db, person, now)
            asking.check_stores(service, caller)
            names = asking.models_of(body.settings, service.models)
            chat = chats.create(db, person.id, body.text, body.settings.model_dump(), now)
            message = chats.add(db, chat, now, role="user", text=body.text, state="done")
            asked = asking.ask(db, chat, message, names, now, None)
            return caller, asked, view.chat(chat, chats.turns(db, chat))

    caller, asked, made = await run_in_threadpool(write)
    _start(answers, service, caller, asked)
    return made


@router.get("/{ref}")
def show(person: SignedIn, store: Stored, answers: Writing, now: Now, ref: str) -> ChatOut:
    """A conversation with all its branches."""
    return read(store, answers, person, ref, now)


@router.patch("/{ref}", status_code=204)
def change(person: SignedIn, store: Stored, service: Serving, ref: str, body: ChatChange) -> None:
    """Change title, settings, or the branch that is shown."""
    with store.writing() as db:
        chat = find(db, person, ref)
        if body.title is not None:
            chats.rename(chat, body.title)
        if body.tip is not None:
            chat.tip = turn_of(db, chat, body.tip).id
        if body.settings is not None:
            asking.models_of(body.settings, service.models)
            chat.settings = body.settings.model_dump()


@router.delete("/{ref}", status_code=204)
async def delete(person: SignedIn, store: Stored, answers: Writing, settings: Settings, now: Now, ref: str) -> None:
    """Delete a conversation, and what was collected of it."""

    def turns() -> list[int]:
        with store.reading() as db:
            return [one.id for one in chats.turns(db, find(db, person, ref))]

    for turn in await run_in_threadpool(turns):
        await answers.stop(turn)

    def gone() -> None:
        with store.reading() as db:
            found = chats.turns(db, find(db, person, ref))
        exchanges = [one.exchange for one in found if one.exchange is not None]
        picks = [str(one.verdict["ref"]) for one in found if one.verdict and one.verdict.get("ref")]
        collected.delete_several(store, person.name, exchanges, picks, [settings.folder], now)
        with store.writing() as db:
            chats.delete(db, find(db, person, ref))
        store.scrub()

    await run_in_threadpool(gone)


@router.post("/{ref}/turns", status_code=201)
async def send(
    person: SignedIn, store: Stored, service: Serving, answers: Writing, now: Now, ref: str, body: NewTurn
) -> TurnsOut:
    """Add a message, and let models answer. An edited message begins a new branch."""
    asking.check_busy(answers, person)

    def write() -> tuple[Caller, list[AskedTurn], TurnsOut]:
        with store.writing() as db:
            caller, chat = _prepared(db, service, person, ref, now)
            message = chats.keyed(db, chat, body.key)
            if message is not None:
                return caller, [], _made(db, chat, message)
            if body.parent is not None and turn_of(db, chat, body.parent).role != "assistant":
                raise UserError(f"turn {body.parent}: not an answer. A message follows an answer")
            names = asking.models_of(view.settings(chat), service.models, earlier=body.parent is not None)
            message = chats.add(
                db, chat, now, parent_id=body.parent, role="user", text=body.text, state="done", key=body.key
            )
            asked = asking.ask(db, chat, message, names, now, None)
            return caller, asked, _made(db, chat, message)

    caller, asked, made = await run_in_threadpool(write)
    _start(answers, service, caller, asked)
    return made


@router.post("/{ref}/answers", status_code=201)
async def again(
    person: SignedIn, store: Stored, service: Serving, answers: Writing, now: Now, ref: str, body: Again
) -> TurnsOut:
    """Let models answer a message again. The earlier answers stay as branches."""
    asking.check_busy(answers, person)

    def write() -> tuple[Caller, list[AskedTurn], TurnsOut]:
        with store.writing() as db:
            caller, chat = _prepared(db, service, person, ref, now)
            message = turn_of(db, chat, body.parent)
            if message.role != "user":
                raise UserError(f"turn {body.parent}: not a message of yours. Models answer those")
            names = asking.models_of(view.settings(chat), service.models, earlier=message.parent_id is not None)
            known = chats.keyed(db, chat, body.key)
            asked = [] if known is not None else asking.ask(db, chat, message, names, now, body.key)
            return caller, asked, _made(db, chat, message)

    caller, asked, made = await run_in_threadpool(write)
    _start(answers, service, caller, asked)
    return made


@router.get("/{ref}/turns/{turn}/text")
async def follow(
    person: SignedIn, store: Stored, answers: Writing, now: Now, ref: str, turn: Id,
    start: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> StreamingResponse:  # fmt: skip
    """The text of an answer from a place on, as it comes: JSON Lines with `text` and `at`, and `turn` at the end."""

    def known() -> None:
        with store.reading() as db:
            turn_of(db, find(db, person, ref), turn)

    await run_in_threadpool(known)

    def whole() -> str:
        chat = read(store, answers, person, ref, now)
        (found,) = [one for one in chat.turns if one.id == turn]
        return line({"turn": found.model_dump()})

    async def lines() -> AsyncIterator[str]:
        async for text, at in answers.follow(turn, start):
            yield line({"text": text, "at": at})
        yield await run_in_threadpool(whole)

    return stream(lines())


@router.post("/{ref}/turns/{turn}/stop", status_code=204)
async def stop(person: SignedIn, store: Stored, answers: Writing, ref: str, turn: Id) -> None:
    """Stop an answer. What was written of it stays."""

    def known() -> None:
        with store.reading() as db:
            turn_of(db, find(db, person, ref), turn)

    await run_in_threadpool(known)
    await answers.stop(turn)


def find(db: Session, person: CurrentPerson, ref: str) -> Conversation:
    """A conversation of the person. 404 for any other."""
    found = chats.by_ref(db, person.id, ref) if REF.fullmatch(ref) else None
    if found is None:
        raise HTTPException(404)
    return found


def turn_of(db: Session, chat: Conversation, turn: int) -> Turn:
    """A turn of a conversation. 404 for any other."""
    found = chats.turn(db, chat, turn)
    if found is None:
        raise HTTPException(404)
    return found


def read(store: Stored, answers: AnswersInProgress, person: CurrentPerson, ref: str, now: datetime) -> ChatOut:
    """A conversation for the page, with what is known of the answers in progress."""
    live = dict(answers.live)
    with store.reading() as db:
        chat = find(db, person, ref)
        found = settle(live, chats.turns(db, chat), now)
    return view.chat(chat, found)


def stream(lines: AsyncIterator[str]) -> StreamingResponse:
    """JSON Lines that proxies pass on as they come."""
    return StreamingResponse(lines, media_type=NDJSON, headers={"X-Accel-Buffering": "no"})


def line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"


def _prepared(
    db: Session, service: Service, person: CurrentPerson, ref: str, now: datetime
) -> tuple[Caller, Conversation]:
    """Who asks, and the conversation."""
    chat = find(db, person, ref)
    caller = asking.caller_of(db, person, now)
    asking.check_stores(service, caller)
    return caller, chat


def _made(db: Session, chat: Conversation, message: Turn) -> TurnsOut:
    """A message and all answers to it."""
    found = [one for one in chats.turns(db, chat) if one.id == message.id or one.parent_id == message.id]
    return TurnsOut(tip=chat.tip, turns=view.turns(found))


def _start(answers: AnswersInProgress, service: Service, caller: Caller, asked: list[AskedTurn]) -> None:
    for one in asked:
        speech = asking.speech(service, caller, one.model, one.messages, one.settings)
        answers.start(one.turn, speech)
