"""From a message to the answers of models: who may ask, which models answer, and what each is asked."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import chats
from heedful.feedback.chats import Conversation, Turn
from heedful.feedback.tasks import Refused
from heedful.serve.answering import Service
from heedful.serve.callers import pages_caller
from heedful.serve.playground.answers import AnswersInProgress
from heedful.serve.playground.models import Speech
from heedful.serve.playground.records import ChatSettings
from heedful.serve.types import Backend, Caller
from heedful.web.security.access import CurrentPerson

MOST_AT_ONCE = 6  # answers in progress of one person
ONE_MODEL = "Only one model is served here. A comparison needs two."
ONE_MESSAGE = "Fewer than two models read the earlier turns of a chat. Start a new chat to compare two."
BUSY = "You wait for several answers already. Stop one, or wait until one is complete."
NO_CONSENT = "Nothing of yours is stored until you agree. Agree, or ask without storing."
_draw = random.SystemRandom()


@dataclass(frozen=True)
class AskedTurn:
    """An answer that a model shall write."""

    turn: int
    model: str
    messages: list[dict[str, Any]]
    settings: ChatSettings


def caller_of(db: Session, person: CurrentPerson, now: datetime) -> Caller:
    """The caller that a person is on the pages. Raises ApiError 403 if they are suspended."""
    return pages_caller(db, person, now)  # type: ignore[arg-type]  # a Person of the session has id and name, too


def agreed(service: Service, caller: Caller) -> bool:
    """Whether conversations of this person may be stored."""
    terms = service.collector.terms()
    return terms is not None and caller.consent == terms[0]


def check_stores(service: Service, caller: Caller) -> None:
    """Refused with the code `consent` unless the person has agreed that conversations are stored."""
    if not agreed(service, caller):
        raise Refused("consent", NO_CONSENT)


def check_busy(answers: AnswersInProgress, person: CurrentPerson) -> None:
    """UserError if the person waits for too many answers."""
    if answers.count(person.id) >= MOST_AT_ONCE:
        raise UserError(BUSY)


def models_of(settings: ChatSettings, models: Mapping[str, Backend], *, earlier: bool = False) -> list[str]:
    """The models that answer: one, or two in random order. UserError if they are not served.

    `earlier`: the chat has earlier turns, so only models are compared that read them.
    """
    served = list(models)
    if settings.compare:
        if len(served) < 2:
            raise UserError(ONE_MODEL)
        able = [name for name in served if not (earlier and models[name].one_message)]
        if len(able) < 2:
            raise UserError(ONE_MESSAGE)
        return _draw.sample(able, 2)
    name = settings.model or served[0]
    if name not in served:
        raise UserError(f"model {name}: not served here. Choose one of {', '.join(served)}")
    return [name]


def ask(
    db: Session, chat: Conversation, message: Turn, names: Sequence[str], now: datetime, key: str | None
) -> list[AskedTurn]:
    """Add the turns of the answers to a message."""
    settings = ChatSettings.model_validate(chat.settings)
    history = messages_of(chats.path(chats.turns(db, chat), message.id))
    pair = secrets.token_urlsafe(12) if len(names) == 2 else None
    made = []
    for place, name in enumerate(names):
        turn = chats.add(
            db, chat, now, parent_id=message.id, role="assistant", text="", state="writing", model=name,
            settings=settings.sampling | {"system": settings.system}, pair=pair, place=place if pair else None,
            key=key if place == 0 else None,
        )  # fmt: skip
        made.append(AskedTurn(turn.id, name, history, settings))
    chat.tip = made[0].turn  # of two, the left one until the choice
    return made


def messages_of(path: Sequence[Turn]) -> list[dict[str, Any]]:
    """The turns as a model reads them. A message whose answer is empty goes, too: roles take turns."""
    made: list[dict[str, Any]] = []
    for turn in path:
        if turn.role == "assistant" and not turn.text.strip():
            made.pop()
        else:
            made.append({"role": turn.role, "content": turn.text})
    return made


def speech(service: Service, caller: Caller, model: str, messages: list[dict[str, Any]], settings: ChatSettings,
           *, refused: bool = False) -> Speech:  # fmt: skip
    """What a model is asked: the system prompt, if there is one, and the messages."""
    system = [{"role": "system", "content": settings.system}] if settings.system.strip() else []
    body = {"model": model, "messages": [*system, *messages], **settings.sampling}
    return Speech(service, caller, body, refused=refused)
