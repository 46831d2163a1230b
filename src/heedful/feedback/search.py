"""Lists of items: filters, search in prompts, order and pages, all in the database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, field_validator
from sqlalchemy.orm import Session, undefer

from heedful.config import Config
from heedful.data.records import Message, as_text
from heedful.feedback.columns import printable
from heedful.feedback.schema import Item, Kind, Purpose

ItemOrder = Literal["newest", "disagreement", "priority"]
ItemStage = Literal["open", "done", "held", "deleted"]
MOST_SEARCHED = 10_000  # characters of a prompt
MOST_CHOICES = 200  # sources and use cases that a filter offers
ANY = "any"


class ItemFilters(Config):
    """Which items of a project. A filter that is not given lets all through."""

    search: str | None = Field(None, max_length=200)
    """Words that the prompt contains, in any order. "Words in quotes" must follow each other."""
    kind: Kind | None = None
    purpose: Purpose | None = None
    state: ItemStage | None = None
    """open: in the queue. done: it has its labels. held: held back. deleted: its texts were deleted."""
    labels: Literal["none", "some", "all"] | None = None
    """none: no label yet. some: has labels, and more are due. all: has the labels it needs."""
    flag: str | None = Field(None, max_length=50)
    """The name of a flag that a labeler set for an answer, or `any`."""
    source: str | None = Field(None, max_length=200)
    use_case: str | None = Field(None, max_length=200)

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        """A field of a form that is left empty filters nothing."""
        return None if value == "" else value

    def where(self, project_id: int) -> list[sa.ColumnElement[bool]]:
        """The conditions of the items that pass."""
        found: list[sa.ColumnElement[bool]] = [Item.project_id == project_id]
        for column, value in (
            (Item.kind, self.kind), (Item.purpose, self.purpose), (Item.source, self.source),
            (Item.use_case, self.use_case),
        ):  # fmt: skip
            if value is not None:
                found.append(column == printable(value))
        if self.state is not None:
            found.append(_STATES[self.state])
        if self.labels is not None:
            found.append(_LABELS[self.labels])
        if self.flag is not None:
            named = Item.flags.contains(f"|{self.flag}|", autoescape=True)
            found.append(Item.flags != "" if self.flag == ANY else named)
        return found + [Item.searched.contains(part, autoescape=True) for part in parts(self.search or "")]


_STATES: dict[ItemStage, sa.ColumnElement[bool]] = {
    "open": Item.open == sa.true(),
    "done": sa.and_(Item.open == sa.false(), Item.held.is_(None), Item.redacted.is_(None)),
    "held": sa.and_(Item.held.is_not(None), Item.redacted.is_(None)),
    "deleted": Item.redacted.is_not(None),
}
_LABELS: dict[str, sa.ColumnElement[bool]] = {
    "none": Item.taken == 0,
    "some": sa.and_(Item.taken > 0, sa.or_(Item.wanted.is_(None), Item.taken < Item.wanted)),
    "all": Item.taken >= Item.wanted,
}
_ORDERS: dict[ItemOrder, tuple[sa.ColumnElement[Any], ...]] = {
    "newest": (),
    "disagreement": (Item.disagreement.desc().nulls_last(),),
    "priority": (Item.priority.desc(),),
}


def listing(
    db: Session,
    project_id: int,
    filters: ItemFilters | None = None,
    *,
    order: ItemOrder = "newest",
    before: int | None = None,
    offset: int = 0,
    limit: int = 50,
) -> list[Item]:
    """Items that pass, all columns loaded, the newest first among equals.

    The next page has `offset`, or in the order `newest` the last id as `before`.
    """
    chosen = sa.select(Item.id).where(*(filters or ItemFilters()).where(project_id))
    if before is not None:
        chosen = chosen.where(Item.id < before)
    chosen = chosen.order_by(*_ORDERS[order], Item.id.desc()).offset(offset).limit(limit)
    ids = list(db.scalars(chosen))  # rows are long: only those of this page are read
    found = {item.id: item for item in db.scalars(sa.select(Item).where(Item.id.in_(ids)).options(undefer("*")))}
    return [found[number] for number in ids]


def count(db: Session, project_id: int, filters: ItemFilters | None = None) -> int:
    """Number of items that pass."""
    return db.scalar(sa.select(sa.func.count()).where(*(filters or ItemFilters()).where(project_id))) or 0


def choices(db: Session, project_id: int, column: Literal["source", "use_case"]) -> list[str]:
    """What the items of a project have there, in the order of the alphabet."""
    named = getattr(Item, column)
    chosen = sa.select(named).where(Item.project_id == project_id, named.is_not(None)).distinct()
    return list(db.scalars(chosen.order_by(named).limit(MOST_CHOICES)))


def searched(payload: Mapping[str, Any]) -> str:
    """The text in which a search looks: the prompt, or what an item asks of a prompt, without upper case."""
    prompt = payload.get("prompt")
    if prompt is None:
        text = " ".join(str(payload[name]) for name in ("form", "use_case", "about") if payload.get(name))
    else:
        text = prompt if isinstance(prompt, str) else as_text([Message.model_validate(turn) for turn in prompt])
    return printable(_plain(text[:MOST_SEARCHED]), MOST_SEARCHED)


def parts(search: str) -> Sequence[str]:
    """The words and the quoted phrases of a search."""
    found = [quoted or word for quoted, word in re.findall(r'"([^"]*)"?|(\S+)', search)]
    return [printable(plain) for part in found if (plain := _plain(part))]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
