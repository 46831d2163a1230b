"""Edits of users become demonstrations when a lead accepts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from heedful.collection import detectors, react
from heedful.config import UserError
from heedful.data.records import Prompt
from heedful.feedback import items, people, projects
from heedful.feedback.collected import Decision, Exchange, Origin, ServedUser
from heedful.feedback.schema import Assignment, Event, Item

SOURCE = "edit"
REVERSED = "a lead took the acceptance back"


@dataclass(frozen=True)
class Pending:
    """An edit that waits for a lead, with personal data hidden as far as curation found it."""

    exchange_id: str
    user_id: int
    prompt: Any
    answer: str
    model: str
    text: str
    when: datetime


def pending(db: Session, project_id: int, find: Sequence[detectors.Finder] = (), limit: int = 50) -> list[Pending]:
    """Edits of prompts that this project has curated, of users who train, about which no lead has decided.

    The oldest first, and of an exchange the newest edit.
    """
    other = aliased(Decision)
    decided = sa.select(other.exchange_id).where(
        other.project_id == project_id, other.step == "edit", other.reversed.is_(None)
    )  # fmt: skip
    chosen = (
        sa.select(Exchange, Decision.result, Item.payload, Event.content, Event.when)
        .join(Decision, sa.and_(Decision.exchange_id == Exchange.id, Decision.step == "personal"))
        .join(ServedUser, ServedUser.id == Exchange.user_id)
        .join(Origin, Origin.exchange_id == Exchange.id)
        .join(Item, Item.id == Origin.item_id)
        .join(Assignment, Assignment.item_id == Item.id)
        .join(Event, Event.id == Assignment.event_id)
        .where(
            Decision.project_id == project_id, ServedUser.split == "train", Item.kind == "edit",
            Event.content.is_not(None), Exchange.id.not_in(decided),
        )
        .order_by(Event.id)
    )  # fmt: skip
    found: dict[str, Pending] = {}
    for exchange, result, payload, content, when in db.execute(chosen):
        answer, text = (detectors.mask(each, find)[0] for each in (payload["answer"]["text"], content["text"]))
        found.pop(exchange.id, None)
        found[exchange.id] = Pending(
            exchange.id, exchange.user_id, result["prompt"], answer, exchange.model, text, when
        )  # fmt: skip
    return list(found.values())[:limit]


def decide(
    db: Session, project_id: int, exchange_id: str, accept: bool, now: datetime, *, by: int,
    find: Sequence[detectors.Finder] = (),
) -> None:  # fmt: skip
    """Accept the edit of an exchange as a demonstration, or decline it. Logged. `curation.reverse` takes it back."""
    project = projects.lock(db, project_id)
    waiting = {one.exchange_id: one for one in pending(db, project_id, find, limit=1_000_000)}
    if exchange_id not in waiting:
        raise UserError(f"{exchange_id}: no edit waits under this id")
    one = waiting[exchange_id]
    decision = _decision(db, project_id, one, accept, now)
    if accept:
        use_case = _use_case(db, project_id, exchange_id)
        told = {"prompt": one.prompt, "user": f"user-{one.user_id}", "split": "train", "source": SOURCE, **use_case}
        item = items.for_reaction(
            db, project_id, "demonstration", Prompt.model_validate(told), now, purpose="train"
        )  # fmt: skip
        db.add(Origin(item_id=item.id, user_id=one.user_id, exchange_id=exchange_id, answer=0))
        author = db.get_one(ServedUser, one.user_id).person_id
        react.judge(db, project, item, author, {"completion": one.text}, now)
        decision.result = {"item": item.ref}
    action = "accept edit" if accept else "decline edit"
    people.audit(db, by, action, f"decision {decision.id}", project_id=project_id, now=now)


def withdraw(db: Session, project_id: int, decision: Decision, now: datetime, *, by: int) -> None:
    """Put the demonstration of an accepted edit on hold. The edit then waits for a lead again."""
    if decision.result is not None:
        items.change(db, project_id, decision.result["item"], now, by=by, held=REVERSED)


def _decision(db: Session, project_id: int, one: Pending, accept: bool, now: datetime) -> Decision:
    chosen = sa.select(Decision).where(
        Decision.project_id == project_id, Decision.exchange_id == one.exchange_id, Decision.step == "edit"
    )
    decision = db.scalar(chosen)
    if decision is None:
        decision = Decision(
            project_id=project_id, exchange_id=one.exchange_id, user_id=one.user_id, step="edit", drops=False
        )  # fmt: skip
        db.add(decision)
    decision.outcome, decision.when, decision.result = ("accepted" if accept else "declined"), now, None
    decision.why = "a lead accepted the edit as a demonstration" if accept else "a lead declined the edit"
    decision.reversed = decision.reversed_by = None
    db.flush()
    return decision


def _use_case(db: Session, project_id: int, exchange_id: str) -> dict[str, str]:
    chosen = sa.select(Decision.outcome).where(
        Decision.project_id == project_id, Decision.exchange_id == exchange_id, Decision.step == "use_case",
        Decision.reversed.is_(None),
    )  # fmt: skip
    found = db.scalar(chosen)
    return {"use_case": found} if found else {}
