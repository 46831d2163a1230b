"""What readers think of answers: thumbs with reasons, improvements, and choices between two answers.

The conversation shows them, and the collection keeps them as judgements (`collection.react`) where it keeps the answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from heedful.collection import react
from heedful.config import UserError
from heedful.feedback import chats
from heedful.feedback.chats import Conversation, Turn
from heedful.feedback.collected import Exchange
from heedful.feedback.tasks import Refused
from heedful.serve.answering import Service
from heedful.serve.playground import asking, view
from heedful.serve.playground.api import Serving, find, turn_of
from heedful.serve.playground.blind import names_a_model
from heedful.serve.playground.records import Choice, Edit, Thumb, TurnsOut
from heedful.serve.types import Caller
from heedful.web.security.access import CurrentPerson, Id, Now, SignedIn, Stored

router = APIRouter(prefix="/api/chats", tags=["playground"])
UNFINISHED = "This answer is not complete yet. Wait until it is."
NOT_WHOLE = "Both answers must be complete before you choose. Ask again if one of them failed."
CHOSEN = "You have chosen already, and the names of the models were shown."
UNCHOSEN = "Choose between the two answers first."


@router.post("/{ref}/turns/{turn}/thumb", status_code=204)
def thumb(person: SignedIn, store: Stored, service: Serving, now: Now, ref: str, turn: Id, body: Thumb) -> None:
    """Give an answer a thumb, or (null) take it back."""
    with store.writing() as db:
        caller, _, answer = _answer(db, service, person, ref, turn, now)
        before = answer.thumb
        if body.thumb is None:
            if before and before.get("ref"):
                react.undo(db, caller.name, before["ref"], now)
            answer.thumb = None
            return
        given: dict[str, Any] = {"up": body.thumb == "up", "reasons": body.reasons, "comment": body.comment.strip()}
        named = None
        if _is_collected(db, answer):
            named = react.thumb(
                db, str(answer.exchange), caller.name, given["up"], body.reasons, given["comment"] or None, now=now
            ).ref
        answer.thumb = given | {"ref": named}


@router.post("/{ref}/turns/{turn}/edit", status_code=204)
def edit(person: SignedIn, store: Stored, service: Serving, now: Now, ref: str, turn: Id, body: Edit) -> None:
    """Offer an improvement of an answer."""
    with store.writing() as db:
        caller, _, answer = _answer(db, service, person, ref, turn, now)
        if body.text.strip() == answer.text.strip():
            raise UserError("text: it is the same as the answer. Change it first")
        if _is_collected(db, answer):
            react.edit(db, str(answer.exchange), caller.name, body.text, now=now)
        answer.edit = body.text


@router.post("/{ref}/pairs/{pair}")
def choose(person: SignedIn, store: Stored, service: Serving, now: Now, ref: str, pair: str, body: Choice) -> TurnsOut:
    """Choose between two answers, and see which models wrote them. The conversation goes on from the better one."""
    with store.writing() as db:
        chat = find(db, person, ref)
        caller = asking.caller_of(db, person, now)
        asking.check_stores(service, caller)
        everything = chats.turns(db, chat)
        sides = sorted((one for one in everything if one.pair == pair), key=lambda one: one.place or 0)
        if len(sides) != 2:
            raise UserError(f"pair {pair}: not in this conversation")
        left, right = sides
        if left.verdict is not None:
            if left.verdict["verdict"] != body.verdict:
                raise Refused("done", CHOSEN)
        else:
            _decide(db, service, caller, chats.path(everything, left.parent_id), left, right, body, now)
            if chat.tip in (left.id, right.id):  # else the conversation went on before the choice
                chat.tip = (right if body.verdict == "right" else left).id
            chat.updated = now
        return TurnsOut(tip=chat.tip, turns=view.turns(sides))


def _decide(
    db: Session, service: Service, caller: Caller, path: list[Turn], left: Turn, right: Turn, body: Choice,
    now: datetime,
) -> None:  # fmt: skip
    if left.state != "done" or right.state != "done":
        raise UserError(NOT_WHOLE)
    blind = not any(names_a_model(side.text, service.models) for side in (left, right))
    left.verdict = right.verdict = {"verdict": body.verdict, "blind": blind}
    if not service.collector.wants(caller.name, caller.consent, False):
        return
    prompt = asking.messages_of(path)
    system = (left.settings or {}).get("system", "")
    if system.strip():
        prompt = [{"role": "system", "content": system}, *prompt]
    outcome: react.Outcome = "both_bad" if body.verdict == "bad" else body.verdict
    made = react.pick(db, caller.name, prompt, _side(left), _side(right), outcome, blind=blind, now=now)
    left.verdict = right.verdict = {**left.verdict, "ref": made.ref}


def _side(turn: Turn) -> react.Side:
    settings = {name: value for name, value in (turn.settings or {}).items() if name != "system"}
    return react.Side(turn.text, str(turn.model), settings)


def _answer(
    db: Session, service: Service, person: CurrentPerson, ref: str, turn: int, now: datetime
) -> tuple[Caller, Conversation, Turn]:
    """An answer that its reader may judge."""
    chat = find(db, person, ref)
    caller = asking.caller_of(db, person, now)
    asking.check_stores(service, caller)
    answer = turn_of(db, chat, turn)
    if answer.role != "assistant" or answer.state == "writing":
        raise UserError(UNFINISHED)
    if answer.pair is not None and answer.verdict is None:
        raise UserError(UNCHOSEN)
    return caller, chat, answer


def _is_collected(db: Session, answer: Turn) -> bool:
    """Whether the collection keeps the answer. It may draw a share of all, and a failed one is not kept."""
    return answer.exchange is not None and db.get(Exchange, answer.exchange) is not None
