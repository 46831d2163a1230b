"""Which item a labeler gets next, and for how long.

A lease gives an item to a labeler until `Assignment.expires`. Nothing is written when that time comes: a lease is live
while `expires` lies ahead, and every query compares the two. The caches of an item (`taken`, `had_by`, `open`) count
what labelers submitted or skipped, and never leases.

Each step of the search is a look into an index, however many items and judgements there are. `had_by` names the
labelers who judged or skipped an item ("|3|17|", "" for a fresh one). Items with the same set are neighbours in the
index `ix_item_queue`, so the search steps over all items of a labeler together.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Load, Session, aliased, undefer

from heedful.data.records import Record
from heedful.feedback import differing, judgements, people, projects, schema
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.schema import Assignment, Event, Item, Kind, Membership, Project, Purpose, State, may_have
from heedful.feedback.tasks import Refused, Task

REMEMBERED = 20  # the latest leases of a labeler among which a draft is looked for
MOST_COUNTED = 200
FINISHED: tuple[State, ...] = ("done", "skipped")


@dataclass(frozen=True)
class Lease:
    """An item in the hands of a labeler."""

    project: Project
    member: Membership
    item: Item
    assignment: Assignment

    @property
    def payload(self) -> Record:
        return judgements.PAYLOADS[self.item.kind].model_validate(self.item.payload)

    def task(self, db: Session) -> Task:
        """What the labeler gets to see, under the guide of this moment."""
        assignment, payload = self.assignment, self.payload
        assignment.instructions = projects.version(db, self.project.id, "guide")
        texts = judgements.completions(payload)
        return Task(
            lease=assignment.token,
            kind=self.item.kind,
            ref=self.item.ref,
            payload=payload,
            completions=tuple(texts[index] for index in assignment.order),
            order=tuple(assignment.order),
            draft=assignment.draft,
            drafted=assignment.drafted,
            expires=assignment.expires,
            practice=self.item.purpose == "practice",
            corrects=assignment.corrects,
            sent_back=_note_of(db, assignment),
            instructions=assignment.instructions,
        )


# Statements that every task takes are built once: SQLAlchemy needs longer to build one than the database to run it.
_PERSON = Assignment.person_id == sa.bindparam("person")
_LIVE = sa.and_(Assignment.state == "leased", Assignment.expires > sa.bindparam("now"))
_PROJECT = sa.select(Assignment.project_id).where(Assignment.token == sa.bindparam("lease"), _PERSON)
_ASSIGNMENT = sa.select(Assignment).options(undefer(Assignment.draft)).execution_options(populate_existing=True)
_HAD = _ASSIGNMENT.where(Assignment.item_id == sa.bindparam("item"), _PERSON)
_LATEST = (
    _ASSIGNMENT.where(
        Assignment.project_id == sa.bindparam("project"),
        _PERSON,
        Assignment.state == "leased",
        Assignment.kind.in_(sa.bindparam("kinds", expanding=True)),
    )
    .order_by(Assignment.expires.desc())
    .limit(REMEMBERED)
)
_LEASE = (
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
_FINISHED = sa.select(Assignment.person_id, Assignment.state).where(
    Assignment.item_id == sa.bindparam("item"), Assignment.state.in_(FINISHED), Assignment.aside == sa.false()
)
_LEASED_TO_OTHERS = sa.select(sa.func.count()).where(
    _LIVE, Assignment.person_id != sa.bindparam("person"), Assignment.aside == sa.false()
)
_OTHERS_OF_ITEM = _LEASED_TO_OTHERS.where(Assignment.item_id == sa.bindparam("item"))

_SENT_BACK = (
    sa.select(Event.content)
    .where(Event.item_id == sa.bindparam("item"), Event.refers_to == sa.bindparam("event"))
    .where(Event.kind == "sent_back", Event.content.is_not(None))
    .limit(1)
)

# The search through the queue: from the highest priority down, and in each from begun items to fresh ones.
_QUEUE = sa.and_(
    Item.project_id == sa.bindparam("project"),
    Item.purpose == sa.bindparam("purpose"),
    Item.kind == sa.bindparam("kind"),
    Item.open == sa.true(),
)
_HAD_OR_HAS = sa.exists().where(Assignment.item_id == Item.id, _PERSON, _LIVE | Assignment.state.in_(FINISHED))
_DONE_OR_SKIPPED = sa.exists().where(Assignment.item_id == Item.id, _PERSON, Assignment.state.in_(FINISHED))
_TWIN = aliased(Item)  # another item of the same texts: the one of which a gold item is a copy, or the copy
_KNOWS = (
    sa.exists()
    .where(_TWIN.project_id == Item.project_id, _TWIN.texts_sha256 == Item.texts_sha256, _TWIN.id != Item.id)
    .where(Assignment.item_id == _TWIN.id, _PERSON, _LIVE | Assignment.state.in_(FINISHED))
)
_FREE = sa.and_(
    Item.taken + _LEASED_TO_OTHERS.where(Assignment.item_id == Item.id).correlate(Item).scalar_subquery() < Item.wanted,
    ~sa.exists().where(Assignment.item_id == Item.id, _PERSON, _LIVE),
    ~_KNOWS.where(_TWIN.purpose.in_(schema.SHARED)),  # who had the copy may know the answer
)
_HIGHEST = sa.select(Item.priority).where(_QUEUE).order_by(Item.priority.desc()).limit(1)
_LOWER = _HIGHEST.where(Item.priority < sa.bindparam("level"))
_HERE = sa.and_(_QUEUE, Item.priority == sa.bindparam("level"))
_BEGUN = sa.select(Item.had_by).where(_HERE, Item.had_by > sa.bindparam("after"), _FREE).order_by(Item.had_by).limit(1)
_BEGUN_BEFORE = _BEGUN.where(Item.had_by <= sa.bindparam("pivot"))
_FIRST = (
    sa.select(Item)
    .where(_HERE, Item.had_by == sa.bindparam("had_by"), _FREE)
    .order_by(Item.rank, Item.id)
    .limit(1)
    .options(undefer(Item.payload))
)


def _note_of(db: Session, assignment: Assignment) -> str | None:
    """What a lead wrote when they sent the judgement back. None: nobody did, or its labeler took it back."""
    if assignment.corrects is None:
        return None
    content = db.scalar(_SENT_BACK, {"item": assignment.item_id, "event": assignment.corrects})
    return content.get("note", "") if content is not None else None


# Leases


def lock(db: Session, person_id: int, lease: str) -> Project:
    """Lock the project of a lease. Raises Refused if the person has no such lease."""
    sound = lease.isascii() and "\0" not in lease  # PostgreSQL refuses null characters and lone surrogates
    project_id = db.scalar(_PROJECT, {"lease": lease, "person": person_id}) if sound else None
    if project_id is None:
        raise Refused("unknown", "this task is not yours")
    return projects.lock(db, project_id)


def resume(
    db: Session, person_id: int, lease: str, now: datetime, locked: Project | None = None
) -> tuple[Lease, ProjectSettings]:
    """The lease of a token, renewed if it had expired and the item is free. Raises Refused."""
    project = locked or lock(db, person_id, lease)
    settings = ProjectSettings.model_validate(project.settings)
    member = people.membership(db, project.id, person_id)
    if member is None:
        raise Refused("unknown", "you are not in this project any more")
    assignment, item = db.execute(_LEASE, {"lease": lease}).one()
    if assignment.state in FINISHED:
        raise Refused("done", "this task was submitted already" if assignment.state == "done" else "you skipped it")
    if item.redacted is None and not may_have(member.role, item.purpose):
        raise Refused("lost", "your role in this project has changed, and this task is not for it")
    expired = assignment.expires <= now
    if item.redacted is not None or (expired and not is_free(db, item, person_id, now)):
        raise Refused("lost", "the time for this task was over, and somebody else has it now")
    if expired:
        assignment.expires = end(settings, now)
    return Lease(project, member, item, assignment), settings


def end(settings: ProjectSettings, now: datetime) -> datetime:
    """When a lease that is given or renewed now expires."""
    return now + timedelta(minutes=settings.lease_minutes)


def item_of(db: Session, assignment: Assignment) -> Item:
    return db.scalars(_ITEM, {"item": assignment.item_id}).one()


def is_free(db: Session, item: Item, person_id: int, now: datetime) -> bool:
    """Whether an item still wants this person's judgement, live leases of others counted.

    An item that the person reported is on hold for the others alone.
    """
    own_report = item.held == reported_by(person_id) and item.redacted is None
    if not (item.open or own_report) or item.wanted is None:
        return item.open or own_report
    others = db.scalar(_OTHERS_OF_ITEM, {"item": item.id, "person": person_id, "now": now}) or 0
    return item.taken + others < item.wanted


def reported_by(person_id: int) -> str:
    """Why an item is on hold in which a labeler reported personal data."""
    return f"personal data, reported by {person_id}"


def at_hand(
    db: Session,
    member: Membership,
    kinds: Sequence[Kind],
    besides: str | None,
    settings: ProjectSettings,
    now: datetime,
) -> Lease | None:
    """The labeler's oldest live lease, else the item of their last draft if it is free. `besides` is left out.

    `besides` names the lease that the labeler is busy with. It is renewed if it has expired and its item is free.
    """
    asked = {"project": member.project_id, "person": member.person_id, "kinds": settings.kinds}
    latest = list(db.scalars(_LATEST, asked))

    def returnable(assignment: Assignment) -> Item | None:
        item = item_of(db, assignment)
        return item if may_have(member.role, item.purpose) and is_free(db, item, member.person_id, now) else None

    for assignment in latest:
        if assignment.token == besides and assignment.expires <= now and returnable(assignment):
            assignment.expires = end(settings, now)
    latest = [assignment for assignment in latest if assignment.token != besides and assignment.kind in kinds]
    live = [assignment for assignment in latest if assignment.expires > now]
    if live:
        oldest = min(live, key=lambda assignment: assignment.id)
        project = db.get_one(Project, member.project_id)
        return Lease(project, member, item_of(db, oldest), oldest)
    for assignment in latest:
        if assignment.drafted is not None and (item := returnable(assignment)) is not None:
            return give(db, member, item, settings, now)
    return None


def give(
    db: Session, member: Membership, item: Item, settings: ProjectSettings, now: datetime, *, aside: bool = False
) -> Lease:
    """Lease an item to a labeler. An item that they had before keeps its order and its draft.

    `aside`: a model labels it, which changes nothing for people.
    """
    assignment = db.scalar(_HAD, {"item": item.id, "person": member.person_id})
    if assignment is None:
        payload = judgements.PAYLOADS[item.kind].model_validate(item.payload)
        order = list(range(len(judgements.completions(payload))))
        random.Random(f"{item.ref}/{member.person_id}").shuffle(order)
        assignment = Assignment(
            token=secrets.token_urlsafe(18), project_id=item.project_id, item_id=item.id, kind=item.kind,
            person_id=member.person_id, order=order, created=now, draft=None, aside=aside,
        )  # fmt: skip
        db.add(assignment)
    assignment.state, assignment.expires = "leased", end(settings, now)
    member.served += 1
    db.flush()
    return Lease(db.get_one(Project, member.project_id), member, item, assignment)


def waiting(
    db: Session, member: Membership, settings: ProjectSettings, now: datetime, most: int = MOST_COUNTED
) -> dict[Kind, int]:
    """Tasks that there are for a labeler, by kind: what they hold, and what is free for them. At most `most` of each.

    Items with a known answer that come unmarked between the others do not count.
    """
    asked = {"project": member.project_id, "person": member.person_id, "now": now, "had": f"%|{member.person_id}|%"}
    found: dict[Kind, int] = dict.fromkeys(settings.kinds, 0)

    def count(kind: Kind, purpose: Purpose, *conditions: sa.ColumnElement[bool]) -> int:
        some = sa.select(Item.id).where(_QUEUE, *conditions).limit(most).subquery()
        given = {**asked, "kind": kind, "purpose": purpose}
        return db.scalar(sa.select(sa.func.count()).select_from(some), given) or 0

    if member.phase != "work" and member.role in ("labeler", "held_out"):
        found |= {kind: count(kind, cast(Purpose, member.phase), ~_DONE_OR_SKIPPED, ~_KNOWS) for kind in found}
        if member.phase == "screening" or any(found.values()):
            return found
    held = sa.select(Assignment.kind, sa.func.count()).where(Assignment.project_id == member.project_id, _PERSON, _LIVE)
    found |= {kind: number for kind, number in db.execute(held.group_by(Assignment.kind), asked) if kind in found}
    for purpose in _purposes(member, settings):
        for kind in found:
            found[kind] += count(kind, purpose, Item.had_by.not_like(sa.bindparam("had")), _FREE)
    return {kind: min(number, most) for kind, number in found.items()}


def next_end(db: Session, member: Membership, kinds: Sequence[Kind], now: datetime) -> datetime | None:
    """When the first live lease of another labeler expires."""
    chosen = sa.select(sa.func.min(Assignment.expires)).where(
        Assignment.project_id == member.project_id,
        Assignment.state == sa.literal("leased", literal_execute=True),  # as the partial index says it
        Assignment.expires > now,
        Assignment.kind.in_(kinds),
        Assignment.person_id != member.person_id,
        Assignment.aside == sa.false(),
    )
    return db.scalar(chosen)


# Caches


def refresh(db: Session, item: Item) -> None:
    """Compute the caches of an item again from its assignments."""
    db.flush()
    settle(item, [(person, state) for person, state in db.execute(_FINISHED, {"item": item.id})])
    differing.update(db, item)
    db.flush()


def settle(item: Item, states: Iterable[tuple[int, State]]) -> None:
    """Compute the caches of an item from the state of each person's assignment."""
    finished = {person: state for person, state in states if state in FINISHED}
    item.taken = sum(state == "done" for state in finished.values())
    item.had_by = had_by(finished) if item.wanted is not None else ""
    item.open = item.held is None and item.redacted is None and (item.wanted is None or item.taken < item.wanted)


def had_by(people: Iterable[int]) -> str:
    """The canonical name of a set of people: "|3|17|"."""
    named = "|".join(map(str, sorted(people)))
    return f"|{named}|" if named else ""


# The queue


def choose(
    db: Session, member: Membership, kinds: Sequence[Kind], settings: ProjectSettings, now: datetime
) -> Item | None:
    """A new item for a labeler, by phase and role. Now and then one with a known answer."""
    asked = {"project": member.project_id, "person": member.person_id, "now": now}
    if member.phase != "work" and member.role in ("labeler", "held_out"):
        item = _pick_shared(db, asked, kinds, member.phase)
        if item is not None or member.phase == "screening":
            return item
        member.phase = "work"
    rng = random.Random(f"{member.project_id}/{member.person_id}/{member.served}")
    draw = rng.random() - settings.gold_share
    known: Purpose | None = "gold" if draw < 0 else "attention" if draw < settings.attention_share else None
    if known is not None:
        item = _pick_shared(db, asked, kinds, known)
        if item is not None:
            return item
    return _pick(db, asked, kinds, _purposes(member, settings), rng)


def _purposes(member: Membership, settings: ProjectSettings) -> list[Purpose]:
    """Of the work that a member gets."""
    purposes: list[Purpose] = ["train"] if may_have(member.role, "train") else []
    if member.role == "held_out" or settings.labelers_evaluate:
        purposes.append("evaluate")
    return purposes


def _pick(
    db: Session, asked: dict[str, Any], kinds: Sequence[Kind], purposes: Sequence[Purpose], rng: random.Random
) -> Item | None:
    """The free item of the highest priority that the labeler never had.

    Of several kinds the first that has work is taken. In one priority, items that others began come before fresh ones.
    Purposes of equal priority take turns at random.
    """
    for kind in kinds:
        found = [item for purpose in purposes if (item := _best(db, {**asked, "kind": kind, "purpose": purpose}, rng))]
        if found:
            top = max(item.priority for item in found)
            return rng.choice([item for item in found if item.priority == top])
    return None


def _best(db: Session, asked: dict[str, Any], rng: random.Random) -> Item | None:
    """The item to give of one kind and purpose."""
    pivot = f"|{str(rng.random())[2:]}"  # a random start among the begun items, else low numbers would come first
    level = db.scalar(_HIGHEST, asked)
    while level is not None:
        here = {**asked, "level": level}
        # 1) A set of labelers without this one, from the pivot to the end; 2) from the start to the pivot; 3) fresh.
        begun = _begun(db, _BEGUN, {**here, "after": pivot})
        if begun is None:
            begun = _begun(db, _BEGUN_BEFORE, {**here, "after": "", "pivot": pivot})
        item = db.scalar(_FIRST, {**here, "had_by": begun or ""})
        if item is not None:
            return item
        level = db.scalar(_LOWER, here)
    return None


def _begun(db: Session, chosen: sa.Select[str], here: dict[str, Any]) -> str | None:
    """The first set of labelers with free items that this labeler is not in."""
    while True:
        found = db.scalar(chosen, here)
        if found is None or f"|{here['person']}|" not in found:
            return found
        here = {**here, "after": found}


def _pick_shared(db: Session, asked: dict[str, Any], kinds: Sequence[Kind], purpose: Purpose) -> Item | None:
    """The next of the few items that everybody gets once, but for those whose texts the labeler has had already.

    Screening and practice come in the order in which they were added, gold and attention in the random order.
    """
    place = Item.id if purpose in ("screening", "practice") else Item.draw
    chosen = (
        sa.select(Item).where(_QUEUE, ~_HAD_OR_HAS, ~_KNOWS).order_by(Item.priority.desc(), place, Item.id).limit(1)
    )
    for kind in kinds:
        item = db.scalar(chosen, {**asked, "kind": kind, "purpose": purpose})
        if item is not None:
            return item
    return None
