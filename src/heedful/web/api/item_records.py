"""What the API takes and returns about items."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from heedful.config import IN_ADDRESS
from heedful.feedback.schema import Kind, Purpose
from heedful.feedback.search import ItemFilters, ItemOrder
from heedful.web.api.base import Body, Out


class Item(Out):
    ref: str
    kind: Kind
    purpose: Purpose
    source: str | None
    priority: int
    wanted: int | None
    taken: int
    open: bool
    held: str | None
    created: datetime
    use_case: str | None
    flags: list[str]
    """Flags that labelers set for an answer. `satisfies_constraint`: it is broken. `none_acceptable` is among them."""
    disagreement: float | None
    """From 0, all labelers say the same, to 1, each pair says the opposite. null below two judgements."""
    payload: dict[str, Any]

    @field_validator("flags", mode="before")
    @classmethod
    def _split(cls, flags: Any) -> Any:
        return [name for name in flags.split("|") if name] if isinstance(flags, str) else flags


class Event(Out):
    event: int
    kind: str
    labeler: str
    group: str | None
    when: datetime
    seconds: float | None
    instructions: int | None
    order: list[int] | None
    refers_to: int | None
    stands: bool
    content: dict[str, Any] | None
    """In the item's indices. null if it was redacted."""
    hash: str


class ItemQuery(ItemFilters):
    """The filters, the order and the page of a list of items."""

    model_config = IN_ADDRESS

    order: ItemOrder = "newest"
    before: str | None = Field(None, max_length=100)
    """The ref of an item, for the next page in the order `newest`."""
    offset: int = Field(0, ge=0, le=10_000_000)
    """Number of items to leave out, for the next page in any order."""
    limit: int = Field(50, ge=1, le=500)


class ItemHistory(Out):
    item: Item
    gold: dict[str, Any] | None
    scores: dict[str, list[float]] | None
    events: list[Event]


class ItemChange(Body):
    priority: int | None = Field(None, ge=-1000, le=1000)
    wanted: int | None = Field(None, ge=1, le=100)
    held: str | None = Field(None, max_length=200)
    """Why the item is held back. An empty text releases it."""


class ItemsChange(ItemChange):
    refs: list[str] | None = Field(None, min_length=1, max_length=500)
    """The items that change."""
    matching: ItemFilters | None = None
    """Instead of `refs`: all items that pass these filters. `{}` means all items of the project."""

    @model_validator(mode="after")
    def _which(self) -> ItemsChange:
        if (self.refs is None) == (self.matching is None):
            raise ValueError("give either refs or matching")
        if self.priority is None and self.wanted is None and self.held is None:
            raise ValueError("give priority, wanted or held")
        return self


class Changed(Out):
    items: int
    """How many items were meant."""


class Note(Body):
    note: str = Field(min_length=1, max_length=2000)
    """What the labeler reads above the item."""


class SentBack(Out):
    event: int
    """The new event in the item's history."""


def _known_answer(answer: Any) -> Any:
    """A ranking as people write it, `2 > 1 = 3` with the best first. A choice: `a`, `b`, `tie` or `both bad`."""
    if not isinstance(answer, str):
        return answer
    text = answer.strip()
    if text in ("a", "b", "tie"):
        return {"preferred": text}
    if text == "both bad":
        return {"preferred": "tie", "none_acceptable": True}
    try:
        return {"ranking": [[int(one) - 1 for one in tier.split("=")] for tier in text.split(">")]}
    except ValueError:
        raise ValueError("write it as 2 > 1 = 3: numbers of the answers, the best first") from None


class Gold(Body):
    purpose: Purpose = "gold"
    answer: Annotated[dict[str, Any], BeforeValidator(_known_answer)]
    """A judgement in the item's indices, or a text: `2 > 1 = 3` (from 1, best first), `a`, `b`, `tie` or `both bad`."""
    explanation: str | None = Field(None, max_length=20_000)
