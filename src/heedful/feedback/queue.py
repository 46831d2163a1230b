"""Which item is next. Every step is a look into an index, however many items and judgements there are.

`had_by` names the labelers who are at an item, have judged it or skipped it ("|3|17|", "" for a fresh one), so items
that she had are whole ranges of the index `ix_item_queue`, and are stepped over at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.feedback.schema import Assignment, Item, Kind, Membership, Purpose, Role, State

HAS_HAD: tuple[State, ...] = ("live", "done", "skipped")

# Statements that every task takes, built once: to build one costs more than to run it.
_HAD = sa.select(Assignment.person_id, Assignment.state).where(
    Assignment.item_id == sa.bindparam("item"), Assignment.state.in_(HAS_HAD)
)
_QUEUE = sa.and_(
    Item.project_id == sa.bindparam("project"),
    Item.purpose == sa.bindparam("purpose"),
    Item.kind == sa.bindparam("kind"),
    Item.open == sa.true(),
)
_HIGHEST = sa.select(Item.priority).where(_QUEUE).order_by(Item.priority.desc()).limit(1)
_LOWER = _HIGHEST.where(Item.priority < sa.bindparam("level"))
_HERE = sa.and_(_QUEUE, Item.priority == sa.bindparam("level"))
_BEGUN = sa.select(Item.had_by).where(_HERE, Item.had_by > sa.bindparam("after")).order_by(Item.had_by).limit(1)
_BEGUN_BEFORE = _BEGUN.where(Item.had_by <= sa.bindparam("pivot"))
_FIRST = (
    sa.select(Item)
    .where(_HERE, Item.had_by == sa.bindparam("had_by"))
    .order_by(Item.rank, Item.id)
    .limit(1)
    .options(undefer(Item.payload))
)


def refresh(db: Session, item: Item) -> None:
    """Compute the caches of an item again from its assignments."""
    db.flush()
    settle(item, [(person, state) for person, state in db.execute(_HAD, {"item": item.id})])
    db.flush()


def settle(item: Item, states: Iterable[tuple[int, State]]) -> None:
    """Compute the caches of an item from what became of it with whom."""
    had = {person: state for person, state in states if state in HAS_HAD}
    item.taken = sum(state != "skipped" for state in had.values())
    item.had_by = had_by(had) if item.wanted is not None else ""
    item.open = item.held is None and item.redacted is None and (item.wanted is None or item.taken < item.wanted)


def had_by(people: Iterable[int]) -> str:
    """The canonical name of a set of people."""
    named = "|".join(map(str, sorted(people)))
    return f"|{named}|" if named else ""


def may_have(role: Role, purpose: Purpose) -> bool:
    """Held-out labelers measure what training made, so they never see a training item."""
    return role != "reader" and not (role == "held_out" and purpose == "train")


def take_back(db: Session, member: Membership) -> None:
    """End her leases on what her role may not have; a draft waits for the day when it may."""
    hers = sa.select(Assignment, Item).join(Item, Item.id == Assignment.item_id)
    hers = hers.where(Assignment.project_id == member.project_id, Assignment.person_id == member.person_id)
    for assignment, item in list(db.execute(hers.where(Assignment.state == "live"))):
        if not may_have(member.role, item.purpose):
            assignment.state = "lapsed"
            refresh(db, item)


def pick(
    db: Session,
    project_id: int,
    person_id: int,
    kinds: Sequence[Kind],
    purposes: Sequence[Purpose],
    rng: random.Random,
) -> Item | None:
    """The open item she never had, of the highest priority; there, one that others began before a fresh one.

    Of several kinds the first that has work is taken; purposes of equal priority take turns at random.
    """
    for kind in kinds:
        found = [item for purpose in purposes if (item := _best(db, project_id, person_id, kind, purpose, rng))]
        if found:
            top = max(item.priority for item in found)
            return rng.choice([item for item in found if item.priority == top])
    return None


def pick_shared(
    db: Session, project_id: int, person_id: int, kinds: Sequence[Kind], purpose: Purpose, *, in_order: bool
) -> Item | None:
    """The next item that everybody gets once (there are few): as they were added, or in the random order."""
    hers = sa.exists().where(
        Assignment.item_id == Item.id, Assignment.person_id == person_id, Assignment.state.in_(HAS_HAD)
    )
    place = Item.id if in_order else Item.draw
    chosen = sa.select(Item).where(Item.project_id == project_id, Item.purpose == purpose, Item.open, ~hers)
    for kind in kinds:
        item = db.scalar(chosen.where(Item.kind == kind).order_by(Item.priority.desc(), place, Item.id).limit(1))
        if item is not None:
            return item
    return None


def _best(
    db: Session, project_id: int, person_id: int, kind: Kind, purpose: Purpose, rng: random.Random
) -> Item | None:
    here: dict[str, Any] = {"project": project_id, "purpose": purpose, "kind": kind}
    pivot = f"|{str(rng.random())[2:]}"  # begun items of everybody get their turn, not only the lowest number's
    here["level"] = db.scalar(_HIGHEST, here)
    while here["level"] is not None:
        begun = _begun(db, _BEGUN, {**here, "after": pivot}, person_id)
        if begun is None:
            begun = _begun(db, _BEGUN_BEFORE, {**here, "after": "", "pivot": pivot}, person_id)
        item = db.scalar(_FIRST, {**here, "had_by": begun or ""})
        if item is not None:
            return item
        here["level"] = db.scalar(_LOWER, here)
    return None


def _begun(db: Session, chosen: sa.Select[str], here: dict[str, Any], person_id: int) -> str | None:
    """The first set of labelers with open items that she is not in."""
    while True:
        found = db.scalar(chosen, here)
        if found is None or f"|{person_id}|" not in found:
            return found
        here = {**here, "after": found}
