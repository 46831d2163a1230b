"""The judgements of an item as a table: a row for each labeler, a column for each answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.feedback.events import HistoryEntry
from heedful.feedback.quality import combine
from heedful.feedback.quality.types import Judgement, Ranking
from heedful.feedback.readings import ranking
from heedful.feedback.schema import Item
from heedful.web.text import sanitise

BEGINNING = 220  # characters


def beginning(item: Item) -> str:
    """Of the prompt, or what the item asks for."""
    prompt = item.payload.get("prompt")
    if prompt is None:
        return " ".join(str(part) for part in (item.payload.get("form"), item.payload.get("use_case")) if part)
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return str(sanitise.plain(" ".join(text[: 2 * BEGINNING].split())[:BEGINNING]))


def beginnings(db: Session, project_id: int, refs: Iterable[Any]) -> dict[str, str]:
    """The beginnings of the prompts of items, by ref."""
    chosen = sa.select(Item).where(Item.project_id == project_id, Item.ref.in_(set(map(str, refs))))
    return {item.ref: beginning(item) for item in db.scalars(chosen.options(undefer(Item.payload)))}


@dataclass(frozen=True)
class Cell:
    """What a row says of one answer."""

    rank: int
    """1 is the best. Answers of one tier share a rank, and the next tier goes on counting answers: 1, 1, 3."""
    tied: bool
    rating: Mapping[str, Any] | None = None
    """Overall quality and flags."""


@dataclass(frozen=True)
class TableRow:
    """A judgement that counts, the known answer, or all judgements together."""

    cells: tuple[Cell, ...]
    none_acceptable: bool = False
    entry: HistoryEntry | None = None
    """The judgement. None in the other two cases."""
    shown: tuple[int, ...] = ()
    """Numbers of the answers in the order in which the labeler saw them."""
    seconds: float | None = None
    when: datetime | None = None
    name: str = ""
    """Of a group, or `everybody`."""
    judgements: int = 0
    uncertainty: float = 0.0


@dataclass(frozen=True)
class Matrix:
    """`known` is None where no answer is known, and `together` is empty below two judgements."""

    rows: list[TableRow]
    known: TableRow | None
    together: list[TableRow]


def matrix(item: Item, told: Sequence[HistoryEntry], judged: Sequence[Judgement], answers: Sequence[str]) -> Matrix:
    """The table of a ranking or a choice. Without rows for other kinds, and of an item whose texts were deleted."""
    if not answers or item.kind not in ("ranking", "choice"):
        return Matrix([], None, [])
    rows = [_row(item, one) for one in told if one.stands and one.event.kind == "judgement" and one.event.content]
    known = None
    if item.gold:
        known = TableRow(_cells(ranking(item.kind, item.gold), item.gold), bool(item.gold.get("none_acceptable")))
    together = [
        TableRow(_cells(found.ranking()), name=name, judgements=found.judgements, uncertainty=found.uncertainty())
        for name, found in combine.of_item(judged).items()
    ]
    return Matrix(rows, known, together)


def _row(item: Item, entry: HistoryEntry) -> TableRow:
    event, content = entry.event, entry.event.content or {}
    return TableRow(
        _cells(ranking(item.kind, content), content),
        none_acceptable=bool(content.get("none_acceptable")),
        entry=entry,
        shown=tuple(index + 1 for index in event.order or ()),
        seconds=event.seconds,
        when=event.when,
    )


def _cells(tiers: Ranking, content: Mapping[str, Any] | None = None) -> tuple[Cell, ...]:
    ratings = (content or {}).get("ratings") or ()
    found: dict[int, Cell] = {}
    for tier in tiers:
        rank = len(found) + 1
        for index in tier:
            found[index] = Cell(rank, len(tier) > 1, ratings[index] if index < len(ratings) else None)
    return tuple(found[index] for index in sorted(found))
