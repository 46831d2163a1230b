"""Items in the hands of labelers: giving them out, and getting them back when the time is over."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Load, Session, undefer

from heedful.data.records import Record
from heedful.feedback import judgements, people, projects, queue
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.schema import Assignment, Item, Kind, Membership, Project, Purpose
from heedful.feedback.tasks import Refused

LIVE = sa.literal("live", literal_execute=True)  # as `ix_assignment_live` says it; a parameter would not match
REMEMBERED = 20  # of her lapsed leases, those looked at for a draft

# Statements that every task takes, built once: to build one costs more than to run it.
_PERSON = Assignment.person_id == sa.bindparam("person")
_PROJECT = sa.select(Assignment.project_id).where(Assignment.token == sa.bindparam("lease"), _PERSON)
_ASSIGNMENT = sa.select(Assignment).options(undefer(Assignment.draft))
_HERS = (
    sa.select(Assignment, Item)
    .join(Item, Item.id == Assignment.item_id)
    .where(Assignment.token == sa.bindparam("lease"))
    .options(undefer(Assignment.draft), Load(Item).undefer("*"))
    .execution_options(populate_existing=True)
)
_ITEM = (
    sa.select(Item)
    .where(Item.id == sa.bindparam("item"))
    .options(undefer("*"))
    .execution_options(populate_existing=True)
)
_OVER = (
    sa.select(Assignment)
    .where(
        Assignment.project_id == sa.bindparam("project"),
        Assignment.state == LIVE,
        Assignment.expires <= sa.bindparam("now"),
    )
    .execution_options(populate_existing=True)
)
_OF = _ASSIGNMENT.where(
    Assignment.project_id == sa.bindparam("project"),
    _PERSON,
    Assignment.state == sa.bindparam("state"),
    Assignment.kind.in_(sa.bindparam("kinds", expanding=True)),
)
_HELD = _OF.where(Assignment.token != sa.bindparam("besides")).order_by(Assignment.id).limit(1)
_LEFT = _OF.order_by(Assignment.expires.desc()).limit(REMEMBERED)
_HAD = _ASSIGNMENT.where(Assignment.item_id == sa.bindparam("item"), _PERSON)


@dataclass(frozen=True)
class Hers:
    """A labeler's hold on an item."""

    project: Project
    member: Membership
    item: Item
    assignment: Assignment

    @property
    def payload(self) -> Record:
        return judgements.PAYLOADS[self.item.kind].model_validate(self.item.payload)


def lock(db: Session, person_id: int, lease: str) -> Project:
    """Lock the project of her lease; Refused where there is no such lease."""
    project_id = db.scalar(_PROJECT, {"lease": lease, "person": person_id}) if _sound(lease) else None
    if project_id is None:
        raise Refused("unknown", "this task is not yours")
    return projects.lock(db, project_id)


def resume(
    db: Session, person_id: int, lease: str, now: datetime, locked: Project | None = None
) -> tuple[Hers, ProjectSettings]:
    """Her hold on an item, taken up again if it had lapsed and the item is free. Raises Refused."""
    project = locked or lock(db, person_id, lease)
    settings = ProjectSettings.model_validate(project.settings)
    member = people.membership(db, project.id, person_id)
    if member is None:
        raise Refused("unknown", "you are not in this project any more")
    lapse(db, project.id, now)
    assignment, item = db.execute(_HERS, {"lease": lease}).one()
    hers = Hers(project, member, item, assignment)
    if assignment.state in ("done", "skipped"):
        raise Refused("done", "this task was submitted already" if assignment.state == "done" else "you skipped it")
    if hers.item.redacted is not None or (assignment.state == "lapsed" and not hers.item.open):
        raise Refused("lost", "the time for this task was over, and somebody else has it now")
    if not queue.may_have(member.role, item.purpose):
        raise Refused("lost", "your role in this project has changed, and this task is not for it")
    if assignment.state == "lapsed":
        assignment.state, assignment.expires = "live", end(settings, now)
        queue.refresh(db, hers.item)
    return hers, settings


def end(settings: ProjectSettings, now: datetime) -> datetime:
    """When a lease given or renewed now is over."""
    return now + timedelta(minutes=settings.lease_minutes)


def item_of(db: Session, assignment: Assignment) -> Item:
    return db.scalars(_ITEM, {"item": assignment.item_id}).one()


def lapse(db: Session, project_id: int, now: datetime) -> None:
    """Take back every lease that is over."""
    for assignment in list(db.scalars(_OVER, {"project": project_id, "now": now})):
        assignment.state = "lapsed"
        queue.refresh(db, db.get_one(Item, assignment.item_id, populate_existing=True))


def keep(db: Session, member: Membership, lease: str, settings: ProjectSettings, now: datetime) -> None:
    """Take up again a lapsed lease that she is still busy with, if its item is free."""
    chosen = _OF.where(Assignment.token == lease)
    assignment = db.scalar(chosen, _of(member, "lapsed", settings.kinds)) if _sound(lease) else None
    if assignment is not None and _may_return(member, item := item_of(db, assignment)):
        assignment.state, assignment.expires = "live", end(settings, now)
        queue.refresh(db, item)


def held(db: Session, member: Membership, kinds: Sequence[Kind], besides: str | None) -> Hers | None:
    """What she has in hand, the oldest first."""
    assignment = db.scalar(_HELD, {**_of(member, "live", kinds), "besides": besides or ""})
    if assignment is None:
        return None
    return Hers(db.get_one(Project, member.project_id), member, item_of(db, assignment), assignment)


def returning(db: Session, member: Membership, kinds: Sequence[Kind]) -> Item | None:
    """The item of the last draft that she left lying, if it is free."""
    for assignment in db.scalars(_LEFT, _of(member, "lapsed", kinds)):
        if assignment.drafted is not None:
            item = item_of(db, assignment)
            if _may_return(member, item):
                return item
    return None


def choose(db: Session, member: Membership, kinds: Sequence[Kind], settings: ProjectSettings) -> Item | None:
    """A new item for her, by her phase and role; now and then one with a known answer."""
    where = (db, member.project_id, member.person_id, kinds)
    if member.phase != "work" and member.role in ("labeler", "held_out"):
        item = queue.pick_shared(*where, "screening" if member.phase == "screening" else "practice", in_order=True)
        if item is not None or member.phase == "screening":
            return item
        member.phase = "work"
    rng = random.Random(f"{member.project_id}/{member.person_id}/{member.served}")
    draw = rng.random()
    known: Purpose | None = None
    if draw < settings.gold_share:
        known = "gold"
    elif draw < settings.gold_share + settings.attention_share:
        known = "attention"
    if known is not None:
        item = queue.pick_shared(*where, known, in_order=False)
        if item is not None:
            return item
    purposes: list[Purpose] = ["train"] if queue.may_have(member.role, "train") else []
    if member.role == "held_out" or settings.labelers_evaluate:
        purposes.append("evaluate")
    return queue.pick(*where, purposes, rng)


def give(db: Session, member: Membership, item: Item, settings: ProjectSettings, now: datetime) -> Hers:
    """Lease an item to her; one that she had before comes in the same order, with its draft."""
    assignment = db.scalar(_HAD, {"item": item.id, "person": member.person_id})
    if assignment is None:
        payload = judgements.PAYLOADS[item.kind].model_validate(item.payload)
        order = list(range(len(judgements.completions(payload))))
        random.Random(f"{item.ref}/{member.person_id}").shuffle(order)
        assignment = Assignment(
            token=secrets.token_urlsafe(18), project_id=item.project_id, item_id=item.id, kind=item.kind,
            person_id=member.person_id, order=order, created=now, draft=None,
        )  # fmt: skip
        db.add(assignment)
    assignment.state, assignment.expires = "live", end(settings, now)
    member.served += 1
    queue.refresh(db, item)
    return Hers(db.get_one(Project, member.project_id), member, item, assignment)


def earliest(db: Session, project_id: int, kinds: Sequence[Kind], besides: int) -> datetime | None:
    """When the first lease of somebody else will be over."""
    chosen = sa.select(Assignment.expires).where(
        Assignment.project_id == project_id,
        Assignment.state == LIVE,
        Assignment.kind.in_(kinds),
        Assignment.person_id != besides,
    )
    return db.scalar(chosen.order_by(Assignment.expires).limit(1))


def _may_return(member: Membership, item: Item) -> bool:
    return item.open and queue.may_have(member.role, item.purpose)


def _of(member: Membership, state: str, kinds: Sequence[Kind]) -> dict[str, Any]:
    """What `_OF` asks for."""
    return {"project": member.project_id, "person": member.person_id, "state": state, "kinds": kinds}


def _sound(lease: str) -> bool:
    """PostgreSQL refuses to compare with null characters and lone surrogates."""
    return lease.isascii() and "\0" not in lease
