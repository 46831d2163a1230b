"""Items in the hands of labelers: giving them out, and getting them back when the time is over."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.data.records import Record
from heedful.feedback import judgements, people, projects, queue
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.schema import Assignment, Item, Kind, Membership, Project, Purpose
from heedful.feedback.tasks import Refused

LIVE = sa.literal("live", literal_execute=True)  # as `ix_assignment_live` says it; a parameter would not match
REMEMBERED = 20  # of her lapsed leases, those looked at for a draft


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
    chosen = sa.select(Assignment.project_id).where(Assignment.token == lease, Assignment.person_id == person_id)
    project_id = db.scalar(chosen) if lease.isascii() and "\0" not in lease else None
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
    chosen = sa.select(Assignment).where(Assignment.token == lease).options(undefer(Assignment.draft))
    assignment = db.scalars(chosen.execution_options(populate_existing=True)).one()
    hers = Hers(project, member, item_of(db, assignment), assignment)
    if assignment.state in ("done", "skipped"):
        raise Refused("done", "this task was submitted already" if assignment.state == "done" else "you skipped it")
    if hers.item.redacted is not None or (assignment.state == "lapsed" and not hers.item.open):
        raise Refused("lost", "the time for this task was over, and somebody else has it now")
    if assignment.state == "lapsed":
        assignment.state, assignment.expires = "live", end(settings, now)
        queue.refresh(db, hers.item)
    return hers, settings


def end(settings: ProjectSettings, now: datetime) -> datetime:
    """When a lease given or renewed now is over."""
    return now + timedelta(minutes=settings.lease_minutes)


def item_of(db: Session, assignment: Assignment) -> Item:
    chosen = sa.select(Item).where(Item.id == assignment.item_id).options(undefer("*"))
    return db.scalars(chosen.execution_options(populate_existing=True)).one()


def lapse(db: Session, project_id: int, now: datetime) -> None:
    """Take back every lease that is over."""
    over = sa.select(Assignment).where(
        Assignment.project_id == project_id, Assignment.state == LIVE, Assignment.expires <= now
    )
    for assignment in list(db.scalars(over.execution_options(populate_existing=True))):
        assignment.state = "lapsed"
        queue.refresh(db, db.get_one(Item, assignment.item_id, populate_existing=True))


def keep(db: Session, member: Membership, lease: str, settings: ProjectSettings, now: datetime) -> None:
    """Take up again a lapsed lease that she is still busy with, if its item is free."""
    chosen = _of(member, "lapsed", settings.kinds).where(Assignment.token == lease)
    assignment = db.scalar(chosen) if lease.isascii() and "\0" not in lease else None
    if assignment is not None and (item := item_of(db, assignment)).open:
        assignment.state, assignment.expires = "live", end(settings, now)
        queue.refresh(db, item)


def held(db: Session, member: Membership, kinds: Sequence[Kind], besides: str | None) -> Hers | None:
    """What she has in hand, the oldest first."""
    chosen = _of(member, "live", kinds)
    if besides is not None:
        chosen = chosen.where(Assignment.token != besides)
    assignment = db.scalar(chosen.order_by(Assignment.id).limit(1))
    if assignment is None:
        return None
    return Hers(db.get_one(Project, member.project_id), member, item_of(db, assignment), assignment)


def returning(db: Session, member: Membership, kinds: Sequence[Kind]) -> Item | None:
    """The item of the last draft that she left lying, if it is free."""
    chosen = _of(member, "lapsed", kinds).order_by(Assignment.expires.desc()).limit(REMEMBERED)
    for assignment in db.scalars(chosen):
        if assignment.drafted is not None:
            item = item_of(db, assignment)
            if item.open:
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
    purposes: list[Purpose] = [] if member.role == "held_out" else ["train"]
    if member.role == "held_out" or settings.labelers_evaluate:
        purposes.append("evaluate")
    return queue.pick(*where, purposes, rng)


def give(db: Session, member: Membership, item: Item, settings: ProjectSettings, now: datetime) -> Hers:
    """Lease an item to her; one that she had before comes in the same order, with its draft."""
    chosen = sa.select(Assignment).where(Assignment.item_id == item.id, Assignment.person_id == member.person_id)
    assignment = db.scalar(chosen.options(undefer(Assignment.draft)))
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


def _of(member: Membership, state: str, kinds: Sequence[Kind]) -> sa.Select[Assignment]:
    chosen = sa.select(Assignment).where(
        Assignment.project_id == member.project_id,
        Assignment.person_id == member.person_id,
        Assignment.state == state,
        Assignment.kind.in_(kinds),
    )
    return chosen.options(undefer(Assignment.draft))
