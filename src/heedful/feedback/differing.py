"""What the standing judgements of an item say together: how far labelers differ, and which flags they set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.feedback.quality.types import Ranking, preferences
from heedful.feedback.readings import ranking
from heedful.feedback.schema import Assignment, Event, Item

CONSTRAINT = "satisfies_constraint"  # the one flag that is raised by false
NONE_ACCEPTABLE = "none_acceptable"

_CONTENTS = (
    sa.select(Event.content)
    .join(Assignment, Assignment.event_id == Event.id)
    .where(Assignment.item_id == sa.bindparam("item"), Assignment.state == "done", Assignment.aside == sa.false())
    .where(Event.content.is_not(None))
    .order_by(Event.id)
)


def disagreement(rankings: Sequence[Ranking]) -> float | None:
    """How far labelers differ, from 0 (all say the same) to 1: the mean over pairs of labelers and pairs of answers.

    Opposite orders count 1, and a tie against an order counts 1/2. None below two labelers.
    """
    sides = [preferences(one) for one in rankings]
    gaps = [abs(one[pair] - other[pair]) / 2 for one, other in combinations(sides, 2) for pair in one]
    return sum(gaps) / len(gaps) if gaps else None


def flags(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the flags that a labeler set for an answer. `satisfies_constraint` is among them where it is broken."""
    found = {NONE_ACCEPTABLE for content in contents if content.get(NONE_ACCEPTABLE)}
    for content in contents:
        for rating in content.get("ratings") or ():
            found |= {name for name, value in (rating or {}).items() if value is (name != CONSTRAINT)}
    return sorted(found)


def update(db: Session, item: Item) -> None:
    """Compute both again for an item whose assignments have changed."""
    if item.kind not in ("ranking", "choice"):
        return
    contents = list(db.scalars(_CONTENTS, {"item": item.id}))
    item.disagreement = disagreement([ranking(item.kind, content) for content in contents])
    named = "|".join(flags(contents))
    item.flags = f"|{named}|" if named else ""
