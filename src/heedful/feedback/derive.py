"""What follows from the events: the caches, computed again, and numbers for leads."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.feedback import assignment, differing, projects
from heedful.feedback.schema import WORK, Assignment, Event, Item, Kind, Person, Purpose, Tally

BATCH = 500


@dataclass(frozen=True)
class WorkDay:
    """Standing judgements of one person on one day."""

    person_id: int
    labeler: str
    day: date
    kind: Kind
    purpose: Purpose
    judgements: int
    seconds: float
    model: bool
    """A model judged. It counts as nobody's work."""


@dataclass(frozen=True)
class Forecast:
    """Judgements left, and how long they take at the speed of the last days. `days_left` is None without any work."""

    left: int
    per_day: float
    days_left: float | None


def tally(db: Session, event: Event, item: Item, sign: int) -> None:
    """Count a judgement (sign 1), or one that no longer counts (sign -1)."""
    key = {
        "project_id": event.project_id, "person_id": event.person_id, "day": event.when.astimezone(UTC).date(),
        "kind": item.kind, "purpose": item.purpose,
    }  # fmt: skip
    more = {"judgements": sign, "milliseconds": sign * _milliseconds(event.seconds)}
    counted = sa.update(Tally).filter_by(**key).values({name: getattr(Tally, name) + more[name] for name in more})
    counted = counted.returning(Tally.day).execution_options(synchronize_session=False)
    if db.execute(counted).first() is None:
        db.execute(sa.insert(Tally).values(**key, **more))


def rebuild(db: Session, project_id: int) -> int:
    """Compute every cache of a project from its events again. Returns how many items had wrong ones. Leases stay."""
    projects.lock(db, project_id)
    wrong = 0
    counted: Counter[tuple[int, date, Kind, Purpose]] = Counter()
    spent: Counter[tuple[int, date, Kind, Purpose]] = Counter()
    last, of_models = 0, set(db.scalars(sa.select(Person.id).where(Person.model.is_not(None))))
    while True:
        chosen = sa.select(Item).where(Item.project_id == project_id, Item.id > last).order_by(Item.id).limit(BATCH)
        items = list(db.scalars(chosen))
        if not items:
            break
        last = items[-1].id
        assignments = _assignments(db, items)
        for item, standing in _standing(db, items):
            for person_id, event in standing.items():
                if event.kind == "judgement":
                    key = (person_id, event.when.date(), item.kind, item.purpose)
                    counted[key] += 1
                    spent[key] += _milliseconds(event.seconds)
            _reassign(db, item, standing, assignments[item.id], of_models)
            before = _caches(item)
            counting = [each for each in assignments[item.id].values() if not each.aside]
            assignment.settle(item, [(each.person_id, each.state) for each in counting])
            db.flush()
            differing.update(db, item)
            wrong += before != _caches(item)
        db.flush()
        db.expunge_all()
    db.execute(sa.delete(Tally).where(Tally.project_id == project_id))
    for (person_id, day, kind, purpose), number in counted.items():
        key = (person_id, day, kind, purpose)
        row = {"project_id": project_id, "person_id": person_id, "day": day, "kind": kind, "purpose": purpose}
        db.add(Tally(**row, judgements=number, milliseconds=spent[key]))
    db.flush()
    return wrong


def _caches(item: Item) -> tuple[Any, ...]:
    return item.taken, item.had_by, item.open, item.flags, item.disagreement


def standing(events: Iterable[Any]) -> dict[int, Any]:
    """The judgement or skip that counts of each person, from the events of one item in their order."""
    found: dict[int, Any] = {}
    for event in events:
        if (event.kind == "judgement" and event.redacted is None) or event.kind == "skip":
            found[event.person_id] = event
        elif event.kind in ("undo", "sent_back"):  # a lead sends back the judgement of another person
            found = {person: one for person, one in found.items() if one.id != event.refers_to}
    return found


def days(db: Session, project_id: int, since: date | None = None) -> list[WorkDay]:
    """Work by person, day, kind and purpose, in the order of days."""
    chosen = sa.select(Tally, Person.name, Person.model).join(Person, Person.id == Tally.person_id)
    chosen = chosen.where(Tally.project_id == project_id, Tally.judgements > 0)
    if since is not None:
        chosen = chosen.where(Tally.day >= since)
    return [
        WorkDay(
            row.person_id,
            name,
            row.day,
            row.kind,
            row.purpose,
            row.judgements,
            row.milliseconds / 1000,
            model is not None,
        )
        for row, name, model in db.execute(chosen.order_by(Tally.day, Person.name, Tally.kind, Tally.purpose))
    ]


def forecast(db: Session, project_id: int, now: datetime, *, over: int = 7) -> dict[Kind, Forecast]:
    """Forecast training and evaluation work by kind, from the last `over` days, today included."""
    left: dict[Kind, int] = {}
    waiting = sa.select(Item.kind, sa.func.sum(Item.wanted - Item.taken)).where(
        Item.project_id == project_id, Item.purpose.in_(WORK), Item.open == sa.true()
    )
    for kind, number in db.execute(waiting.group_by(Item.kind)):
        left[kind] = int(number or 0)
    first = (now - timedelta(days=over - 1)).date()
    done: Counter[Kind] = Counter()
    worked: dict[Kind, date] = {}
    for day in days(db, project_id, first):
        if day.purpose in WORK and not day.model:
            done[day.kind] += day.judgements
            worked.setdefault(day.kind, day.day)
    found: dict[Kind, Forecast] = {}
    for kind in sorted(left.keys() | done.keys()):
        length = (now.date() - worked[kind]).days + 1 if kind in worked else 1
        per_day = done[kind] / length
        found[kind] = Forecast(left.get(kind, 0), per_day, left.get(kind, 0) / per_day if per_day else None)
    return found


def _standing(db: Session, items: Sequence[Item]) -> Iterable[tuple[Item, dict[int, Any]]]:
    columns = (
        Event.id, Event.item_id, Event.person_id, Event.kind, Event.refers_to, Event.redacted, Event.when,
        Event.seconds, Event.order,
    )  # fmt: skip
    chosen = sa.select(*columns).where(Event.item_id.in_([item.id for item in items])).order_by(Event.id)
    by_item: dict[int, list[Any]] = defaultdict(list)
    for event in db.execute(chosen):
        by_item[event.item_id].append(event)
    for item in items:
        yield item, standing(by_item[item.id])


def _assignments(db: Session, items: Sequence[Item]) -> dict[int, dict[int, Assignment]]:
    """By item and person."""
    found: dict[int, dict[int, Assignment]] = {item.id: {} for item in items}
    for each in db.scalars(sa.select(Assignment).where(Assignment.item_id.in_(found))):
        found[each.item_id][each.person_id] = each
    return found


def _reassign(
    db: Session, item: Item, standing: dict[int, Any], assignments: dict[int, Assignment], of_models: set[int]
) -> None:
    """Set the assignments of an item to what its events say."""
    for person_id, event in standing.items():
        if person_id not in assignments:
            assignments[person_id] = Assignment(
                token=secrets.token_urlsafe(18), project_id=item.project_id, item_id=item.id, person_id=person_id,
                kind=item.kind, order=event.order or [], created=event.when, expires=event.when, state="leased",
                aside=person_id in of_models,
            )  # fmt: skip
            db.add(assignments[person_id])
    for person_id, given in assignments.items():
        stands = standing.get(person_id)
        given.event_id = stands.id if stands is not None else None
        if stands is not None:
            given.state = "done" if stands.kind == "judgement" else "skipped"
        elif given.state != "leased":
            given.state, given.expires = "leased", given.created  # a lease that is over


def _milliseconds(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1000)
