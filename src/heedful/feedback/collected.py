"""The tables of what users send to a served model, and of what became of it.

These rows are no part of the event log: they are deleted when their time is over or their user asks for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Boolean, Float, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from heedful.feedback.columns import JsonColumn, Time
from heedful.feedback.schema import Base as Base
from heedful.feedback.schema import Numbered

Split = Literal["train", "held_out"]
CurationStep = Literal["text", "repeat", "split", "limit", "personal", "language", "use_case", "edit"]


class ServedUser(Numbered):
    """A user of served models: an account, or a user whom a program with an account's key names (`name`, else "").

    Curation draws the split once, and then it stays.
    """

    __tablename__ = "served_user"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    name: Mapped[str] = mapped_column(String(200))
    split: Mapped[Split | None] = mapped_column(String(10))
    since: Mapped[datetime] = mapped_column(Time)
    __table_args__ = (UniqueConstraint("person_id", "name"),)


class Exchange(Base):
    """A request to a served model and its answers, from a user who agreed to the storage."""

    __tablename__ = "exchange"
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("served_user.id"), index=True)
    key_id: Mapped[int | None] = mapped_column(Integer)
    consent: Mapped[str] = mapped_column(String(100))  # version of the text that the user agreed to
    model: Mapped[str] = mapped_column(String(200))
    upstream: Mapped[bool] = mapped_column(Boolean)
    prompt: Mapped[str | list[dict[str, Any]]] = mapped_column(JsonColumn)  # text or messages
    answers: Mapped[list[str]] = mapped_column(JsonColumn)
    finish: Mapped[list[str]] = mapped_column(JsonColumn)
    settings: Mapped[dict[str, Any]] = mapped_column(JsonColumn)
    started: Mapped[datetime] = mapped_column(Time, index=True)
    seconds: Mapped[float] = mapped_column(Float)
    prefix: Mapped[str | None] = mapped_column(String(100), index=True)  # hash by which curation finds repeats


class Origin(Base):
    """The user whose words an item holds, and the exchange that it came from, if it was stored."""

    __tablename__ = "origin"
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("served_user.id"), index=True)
    exchange_id: Mapped[str | None] = mapped_column(String(100), index=True)
    answer: Mapped[int] = mapped_column(Integer, default=0)


class Decision(Numbered):
    """What one step of curation did with an exchange, and why. A lead can reverse it, but for the split.

    `result` is what the step made, such as the masked prompt.
    """

    __tablename__ = "decision"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    exchange_id: Mapped[str] = mapped_column(ForeignKey("exchange.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("served_user.id"), index=True)
    step: Mapped[CurationStep] = mapped_column(String(10))
    outcome: Mapped[str] = mapped_column(String(40))
    drops: Mapped[bool] = mapped_column(Boolean)  # keeps the prompt out of the queue
    why: Mapped[str] = mapped_column(Text)
    result: Mapped[Any] = mapped_column(JsonColumn, nullable=True)
    when: Mapped[datetime] = mapped_column("at", Time)
    reversed: Mapped[datetime | None] = mapped_column(Time)
    reversed_by: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    __table_args__ = (UniqueConstraint("project_id", "exchange_id", "step"),)
