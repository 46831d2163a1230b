"""Thumbs, edits and picks: what users say about the answers of served models.

They are judgements of kinds of their own, with the answer's model and settings, in the event log of the project
`served`. No labeler gets them, and no training reads them unless it names them.

    thumb(db, exchange_id, user, up, reasons, comment, now=now, answer=0) -> Reaction
    edit(db, exchange_id, user, text, now=now, answer=0) -> Reaction
    pick(db, user, prompt, left, right, outcome, blind=blind, now=now, key=None) -> Reaction
    undo(db, user, ref, now) -> None
    of_exchange(db, exchange_id) -> [(kind, ref, content)]

`user` is the name of an account, or "ACCOUNT/USER". `prompt` is text or messages. `answer` is the index of one of
several answers. `left` and `right` are `Side(text, model, settings)`. The second thumb or edit of an answer takes the
place of the first. The same one again changes nothing, and neither does a pick with a `key` that its user gave before.
All raise UserError in one line that can be shown.

A user reacts to an exchange of their own that is stored: `store.Collection.wants` said so. Before a pick, ask `wants`
too, and do not call `pick` where it says no.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import Session, undefer

from heedful.collection import users
from heedful.config import UserError, explain
from heedful.data.records import Answer, Record
from heedful.feedback import assignment, derive, events, items, judgements, projects
from heedful.feedback.collected import Exchange, Origin, ServedUser
from heedful.feedback.columns import digest, printable
from heedful.feedback.judgements import ServedReply, SideBySide
from heedful.feedback.schema import REACTIONS, Assignment, Event, Item, Kind, Project

PROJECT, TITLE = "served", "What users said"
Outcome = Literal["left", "right", "tie", "both_bad"]
REASONS: dict[str, str] = {
    "helpful": "Helpful",
    "correct": "Correct",
    "clear": "Clear",
    "wrong": "Wrong facts",
    "not_followed": "Did not follow the instruction",
    "unsafe": "Unsafe or offensive",
    "incomplete": "Incomplete",
    "too_long": "Too long",
    "style": "Style or language",
    "other": "Something else",
}
"""Reasons for a thumb, with their words on pages."""
GOOD, BAD = ("helpful", "correct", "clear", "other"), tuple(list(REASONS)[3:])
"""Reasons that pages offer for a thumb up and for a thumb down."""
COMMENT = 10_000  # characters
WITHDRAWN = "withdrawn by its user"


@dataclass(frozen=True)
class Side:
    """One of two answers side by side."""

    text: str
    model: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Reaction:
    """A reaction as it is stored. `ref` names it, for `undo`. `repeated`: it stood already."""

    ref: str
    event: int
    repeated: bool


def home(db: Session, now: datetime) -> Project:
    """The project of all reactions, created when it is needed."""
    return projects.by_name(db, PROJECT) or projects.create(db, PROJECT, now, title=TITLE)


def thumb(
    db: Session,
    exchange_id: str,
    user: str,
    up: bool,
    reasons: tuple[str, ...] | list[str] = (),
    comment: str | None = None,
    *,
    now: datetime,
    answer: int = 0,
) -> Reaction:
    """A thumb up or down for an answer."""
    unknown = [reason for reason in reasons if reason not in REASONS]
    if unknown:
        raise UserError(f"reasons: {unknown[0]!r} is none of {', '.join(REASONS)}")
    if comment is not None and len(comment) > COMMENT:
        raise UserError(f"comment: it has {len(comment):,} characters. Write at most {COMMENT:,}")
    content = {"up": up, "reasons": list(dict.fromkeys(reasons)), "comment": comment or None}
    return _to_answer(db, "thumb", exchange_id, user, content, now, answer)


def edit(db: Session, exchange_id: str, user: str, text: str, *, now: datetime, answer: int = 0) -> Reaction:
    """The answer as its user would have it. It becomes a demonstration when a lead accepts it."""
    if not text.strip():
        raise UserError("text: the improved answer is empty")
    return _to_answer(db, "edit", exchange_id, user, {"text": text}, now, answer)


def pick(
    db: Session,
    user: str,
    prompt: str | list[dict[str, Any]],
    left: Side,
    right: Side,
    outcome: Outcome,
    *,
    blind: bool,
    now: datetime,
    key: str | None = None,
) -> Reaction:
    """A choice between two answers. `blind`: neither an answer nor the page had named a model before it.

    `key`: the same pick again with the same key changes nothing.
    """
    sides = {"a": Answer(text=left.text, model=left.model), "b": Answer(text=right.text, model=right.model)}
    settings = {"left": left.settings, "right": right.settings}
    payload = _payload(SideBySide, {"prompt": prompt, **sides, "settings": settings, "blind": blind})
    served = users.enter(db, user, now)
    project = projects.lock(db, home(db, now).id)
    named = f"pick {secrets.token_hex(16) if key is None else key}"
    before = db.scalar(sa.select(Event).where(Event.person_id == served.person_id, Event.idempotency_key == named))
    if before is not None:
        return _again(db, before, payload, outcome)
    item = _new_item(db, project, "pick", payload, served.id, None, 0, now)
    return judge(db, project, item, served.person_id, {"outcome": outcome}, now, named)


def undo(db: Session, user: str, ref: str, now: datetime) -> None:
    """Take a reaction back. It no longer counts, and its user can react again."""
    item, served = _own(db, user, ref)
    project = projects.lock(db, item.project_id)
    given = db.scalar(sa.select(Assignment).where(Assignment.item_id == item.id, Assignment.event_id.is_not(None)))
    if given is None:
        raise UserError(f"{ref}: this is taken back already")
    event = db.get_one(Event, given.event_id)
    key = f"undo {secrets.token_hex(16)}"
    events.append(
        db, project, item, served.person_id, "undo", {}, now, idempotency_key=key, refers_to=event.id
    )  # fmt: skip
    given.event_id, given.state, given.expires = None, "leased", now
    item.held = WITHDRAWN
    for ref, project_id in _accepted(db, item):
        items.change(db, project_id, ref, now, by=None, held=WITHDRAWN)
    derive.tally(db, event, item, -1)
    assignment.refresh(db, item)


def of_exchange(db: Session, exchange_id: str) -> list[tuple[Kind, str, dict[str, Any]]]:
    """(kind, ref, content) of each reaction to an exchange that stands, in their order."""
    chosen = (
        sa.select(Item.kind, Item.ref, Event.content)
        .join(Origin, Origin.item_id == Item.id)
        .join(Assignment, Assignment.item_id == Item.id)
        .join(Event, Event.id == Assignment.event_id)
        .where(Origin.exchange_id == exchange_id, Item.kind.in_(REACTIONS), Event.content.is_not(None))
    )
    return [(kind, ref, content) for kind, ref, content in db.execute(chosen.order_by(Event.id))]


def _new_item(
    db: Session, project: Project, kind: Kind, payload: Record, user_id: int, exchange_id: str | None, answer: int,
    now: datetime,
) -> Item:  # fmt: skip
    """A new item for a reaction, with its origin."""
    item = items.for_reaction(db, project.id, kind, payload, now)
    db.add(Origin(item_id=item.id, user_id=user_id, exchange_id=exchange_id, answer=answer))
    return item


def _to_answer(
    db: Session, kind: Kind, exchange_id: str, user: str, content: dict[str, Any], now: datetime, answer: int
) -> Reaction:
    exchange = db.get(Exchange, printable(exchange_id, 100))
    served = db.get_one(ServedUser, exchange.user_id) if exchange is not None else None
    mine = users.account(db, user)
    if exchange is None or served is None or served.person_id != mine.id:
        raise UserError(f"{exchange_id}: nothing of yours is stored under this id, so it takes no {kind}")
    if not 0 <= answer < len(exchange.answers):
        raise UserError(f"answer: {answer} is not from 0 to {len(exchange.answers) - 1}")
    project = projects.lock(db, home(db, now).id)
    chosen = sa.select(Item).join(Origin, Origin.item_id == Item.id)
    chosen = chosen.where(Origin.exchange_id == exchange.id, Origin.answer == answer, Item.kind == kind)
    item = db.scalar(chosen.options(undefer("*")))
    if item is None:
        said = Answer(text=exchange.answers[answer], model=exchange.model)
        payload = _payload(ServedReply, {"prompt": exchange.prompt, "answer": said, "settings": exchange.settings})
        item = _new_item(db, project, kind, payload, served.id, exchange.id, answer, now)
    return judge(db, project, item, served.person_id, content, now)


def _again(db: Session, before: Event, payload: Record, outcome: Outcome) -> Reaction:
    """A pick whose key came before."""
    if before.payload_sha256 != digest(payload.row()) or (before.content or {}).get("outcome") != outcome:
        raise UserError("key: it belongs to another pick. Take a new one for each")
    return Reaction(db.get_one(Item, before.item_id).ref, before.id, True)


def judge(
    db: Session, project: Project, item: Item, person_id: int, content: dict[str, Any], now: datetime,
    key: str | None = None,
) -> Reaction:  # fmt: skip
    """Append a judgement of an item's user, in the place of one that stood. `key`: its idempotency key."""
    payload = judgements.PAYLOADS[item.kind].model_validate(item.payload)
    checked = judgements.check(item.kind, {key: value for key, value in content.items() if value is not None}, payload)
    content = checked.model_dump(mode="json", exclude_none=True)
    given = db.scalar(sa.select(Assignment).where(Assignment.item_id == item.id, Assignment.person_id == person_id))
    before = db.get(Event, given.event_id) if given is not None and given.event_id is not None else None
    if before is not None and before.content == content:
        return Reaction(item.ref, before.id, True)
    if given is None:
        given = Assignment(
            token=secrets.token_urlsafe(18), project_id=project.id, item_id=item.id, person_id=person_id,
            kind=item.kind, order=[], state="leased", created=now, expires=now,
        )  # fmt: skip
        db.add(given)
        db.flush()
    event = events.append(
        db, project, item, person_id, "judgement", content, now,
        idempotency_key=key or f"{item.kind} {secrets.token_hex(16)}",
        refers_to=before.id if before is not None else None,
    )  # fmt: skip
    if before is not None:
        derive.tally(db, before, item, -1)
    given.event_id, given.state, item.held = event.id, "done", None
    derive.tally(db, event, item, 1)
    assignment.refresh(db, item)
    return Reaction(item.ref, event.id, False)


def _payload(model: type[Record], values: dict[str, Any]) -> Record:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error, model)) from None


def _accepted(db: Session, item: Item) -> list[tuple[str, int]]:
    """(ref, project) of the demonstrations that leads made of an edit."""
    if item.kind != "edit":
        return []
    exchange = sa.select(Origin.exchange_id).where(Origin.item_id == item.id).scalar_subquery()
    chosen = sa.select(Item.ref, Item.project_id).join(Origin, Origin.item_id == Item.id)
    chosen = chosen.where(Origin.exchange_id == exchange, Item.kind == "demonstration", Item.source == "edit")
    return [(ref, project_id) for ref, project_id in db.execute(chosen)]


def _own(db: Session, user: str, ref: str) -> tuple[Item, ServedUser]:
    chosen = sa.select(Item, ServedUser).join(Origin, Origin.item_id == Item.id)
    chosen = chosen.join(ServedUser, ServedUser.id == Origin.user_id).where(Item.ref == printable(ref))
    found = db.execute(chosen.where(Item.kind.in_(REACTIONS), Item.redacted.is_(None))).first()
    if found is None or found[1].person_id != users.account(db, user).id:
        raise UserError(f"{ref}: no reaction of yours has this name")
    return found[0], found[1]
