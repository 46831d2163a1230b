"""Conversations of people with served models: their tables, and what reads and writes them.

A conversation is a tree of turns. `Conversation.tip` is the last turn of the branch that its page shows.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, Session, mapped_column

from heedful.config import UserError
from heedful.feedback.columns import IdColumn, JsonColumn, Time
from heedful.feedback.schema import Numbered

TurnState = Literal["writing", "done", "stopped", "failed", "interrupted"]
"""What became of an answer.

writing: a model writes it. done: it is whole. stopped: its reader stopped it. failed: the model did not finish it, and
`note` says why. interrupted: the server ended while a model wrote it.
"""
LONGEST_TITLE = 80  # characters


class Conversation(Numbered):
    """A conversation of a person. `settings` is a `serve.playground.records.ChatSettings`."""

    __tablename__ = "chat"
    ref: Mapped[str] = mapped_column(String(24), unique=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    title: Mapped[str] = mapped_column(JsonColumn)
    settings: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    tip: Mapped[int | None] = mapped_column(IdColumn)
    created: Mapped[datetime] = mapped_column(Time)
    updated: Mapped[datetime] = mapped_column(Time)
    __table_args__ = (Index("ix_chat_person", "person_id", "updated"),)


class Turn(Numbered):
    """A message of a conversation. Turns with the same parent are branches.

    Two answers with the same `pair` are compared. `place` is 0 for the left one, and `verdict` is the choice.
    """

    __tablename__ = "turn"
    chat_id: Mapped[int] = mapped_column(ForeignKey("chat.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("turn.id"))
    role: Mapped[Literal["user", "assistant"]] = mapped_column(String(10))
    text: Mapped[str] = mapped_column(JsonColumn)
    state: Mapped[TurnState] = mapped_column(String(12))
    note: Mapped[str | None] = mapped_column(JsonColumn)  # what its reader is told about it
    model: Mapped[str | None] = mapped_column(String(200))
    settings: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)  # with which the model wrote it
    exchange: Mapped[str | None] = mapped_column(String(100))  # its name in the collection
    pair: Mapped[str | None] = mapped_column(String(24))
    place: Mapped[int | None] = mapped_column(Integer)
    verdict: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    thumb: Mapped[dict[str, Any] | None] = mapped_column(JsonColumn)
    edit: Mapped[str | None] = mapped_column(JsonColumn)  # the reader's improvement
    key: Mapped[str | None] = mapped_column(String(100))  # of the request, which may come twice
    created: Mapped[datetime] = mapped_column(Time)

    @property
    def is_unchosen(self) -> bool:
        """Whether it is one of two answers between which the reader has not chosen, so that its model stays unnamed."""
        return self.pair is not None and self.verdict is None

    __table_args__ = (
        UniqueConstraint("chat_id", "key"),
        Index("ix_turn_chat", "chat_id", "id"),
        Index("ix_turn_parent", "parent_id"),
    )


def create(db: Session, person_id: int, title: str, settings: dict[str, Any], now: datetime) -> Conversation:
    """Create a conversation without turns. Its title is the first line of `title`, cut to LONGEST_TITLE."""
    chat = Conversation(
        ref=secrets.token_urlsafe(12),
        person_id=person_id,
        title=_title(title),
        settings=settings,
        created=now,
        updated=now,
    )
    db.add(chat)
    db.flush()
    return chat


def by_ref(db: Session, person_id: int, ref: str) -> Conversation | None:
    """A conversation of this person."""
    return db.scalar(sa.select(Conversation).where(Conversation.ref == ref, Conversation.person_id == person_id))


def of_person(db: Session, person_id: int, most: int, after: Conversation | None = None) -> list[Conversation]:
    """The conversations of a person, the last used first. `after`: only those that follow this one."""
    chosen = sa.select(Conversation).where(Conversation.person_id == person_id)
    if after is not None:
        earlier = sa.and_(Conversation.updated == after.updated, Conversation.id < after.id)
        chosen = chosen.where(sa.or_(Conversation.updated < after.updated, earlier))
    return list(db.scalars(chosen.order_by(Conversation.updated.desc(), Conversation.id.desc()).limit(most)))


def refs(db: Session, person_id: int) -> list[str]:
    """The names of all conversations of a person, the oldest first."""
    return list(
        db.scalars(sa.select(Conversation.ref).where(Conversation.person_id == person_id).order_by(Conversation.id))
    )


def row(db: Session, chat: Conversation) -> dict[str, Any]:
    """A conversation with all its turns, for the person whose it is. Two answers are without names until the choice."""
    names = ("id", "role", "text", "state", "note", "model", "settings", "pair", "place", "verdict", "thumb", "edit")
    told = [
        {
            **{name: getattr(one, name) for name in names}, "parent": one.parent_id, "created": one.created.isoformat(),
            **({"model": None} if one.is_unchosen else {}),
        }
        for one in turns(db, chat)
    ]  # fmt: skip
    when = {"created": chat.created.isoformat(), "updated": chat.updated.isoformat()}
    return {"ref": chat.ref, "title": chat.title, **when, "settings": chat.settings, "tip": chat.tip, "turns": told}


def unchosen(db: Session, exchanges: Sequence[str]) -> set[str]:
    """Those of the exchanges that are answers between which their reader has not chosen."""
    compared = db.scalars(sa.select(Turn).where(Turn.exchange.in_(exchanges), Turn.pair.is_not(None)))
    return {str(one.exchange) for one in compared if one.is_unchosen}


def turns(db: Session, chat: Conversation) -> list[Turn]:
    """All turns of a conversation, the oldest first."""
    return list(db.scalars(sa.select(Turn).where(Turn.chat_id == chat.id).order_by(Turn.id)))


def turn(db: Session, chat: Conversation, turn_id: int) -> Turn | None:
    """A turn of this conversation."""
    return db.scalar(sa.select(Turn).where(Turn.chat_id == chat.id, Turn.id == turn_id))


def keyed(db: Session, chat: Conversation, key: str) -> Turn | None:
    """The turn that an earlier request with this key made."""
    return db.scalar(sa.select(Turn).where(Turn.chat_id == chat.id, Turn.key == key))


def add(db: Session, chat: Conversation, now: datetime, **columns: Any) -> Turn:
    """Add a turn and make it the tip."""
    made = Turn(chat_id=chat.id, created=now, **columns)
    db.add(made)
    db.flush()
    chat.tip, chat.updated = made.id, now
    return made


def write(db: Session, turn_id: int, **columns: Any) -> None:
    """Change columns of an answer in progress. Nothing happens if it has ended or is deleted."""
    db.execute(sa.update(Turn).where(Turn.id == turn_id, Turn.state == "writing").values(**columns))


def path(found: Sequence[Turn], last: int | None) -> list[Turn]:
    """The turns from the first message to the turn `last`."""
    by_id = {one.id: one for one in found}
    steps: list[Turn] = []
    while last is not None:
        one = by_id.get(last)
        if one is None:
            raise UserError(f"turn {last}: not in this conversation")
        steps.append(one)
        last = one.parent_id
    return steps[::-1]


def rename(chat: Conversation, title: str) -> None:
    """Give a conversation another title."""
    chat.title = _title(title)


def delete(db: Session, chat: Conversation) -> None:
    """Delete a conversation with all its turns."""
    _delete(db, sa.select(Conversation.id).where(Conversation.id == chat.id))


def delete_all(db: Session, person_id: int) -> None:
    """Delete the conversations of a person."""
    _delete(db, sa.select(Conversation.id).where(Conversation.person_id == person_id))


def count(db: Session, person_id: int) -> int:
    """Number of conversations of a person."""
    return db.scalar(sa.select(sa.func.count()).where(Conversation.person_id == person_id)) or 0


def delete_older(db: Session, before: datetime) -> int:
    """Delete the turns before a time that no later turn goes on from, and conversations without any. Counts turns.

    What a later turn goes on from was sent to a model again with it. It stays without its thumb and its improvement.
    """
    deleted = 0
    old = sa.select(Turn.chat_id).where(Turn.created < before)
    none = sa.select(Conversation.id).where(
        Conversation.created < before, ~sa.exists().where(Turn.chat_id == Conversation.id)
    )
    for chat_id in db.scalars(old.union(none)).all():
        deleted += _shorten(db, db.get_one(Conversation, chat_id), before)
    return deleted


def _shorten(db: Session, chat: Conversation, before: datetime) -> int:
    found = turns(db, chat)
    kept: set[int | None] = set()
    for one in reversed(found):  # an answer has a higher number than its message
        if one.created >= before or one.id in kept:
            kept |= {one.id, one.parent_id}
    stay, go = ([one for one in found if (one.id in kept) is here] for here in (True, False))
    if not stay:
        delete(db, chat)
        return len(go)
    pairs = {one.pair for one in go if one.pair is not None}
    for one in stay:
        if one.created < before:
            one.thumb = one.edit = None
        if one.pair in pairs:  # the other answer goes, and with it the comparison
            one.pair = one.place = one.verdict = None
    if chat.tip not in kept:
        chat.tip = stay[-1].id
    if chat.title in {_title(one.text) for one in go if one.parent_id is None}:
        chat.title = _title(stay[0].text)
    db.flush()
    _delete_turns(db, Turn.id.in_([one.id for one in go]))
    return len(go)


def _delete_turns(db: Session, chosen: sa.ColumnElement[bool]) -> None:
    # SQLite checks each row: children first
    db.execute(sa.update(Turn).where(chosen).values(parent_id=None))
    db.execute(sa.delete(Turn).where(chosen))


def _delete(db: Session, chosen: sa.Select[Any]) -> None:
    ids = list(db.scalars(chosen))
    _delete_turns(db, Turn.chat_id.in_(ids))
    db.execute(sa.delete(Conversation).where(Conversation.id.in_(ids)))


def _title(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else "Untitled"
    return first if len(first) <= LONGEST_TITLE else first[: LONGEST_TITLE - 1] + "…"
