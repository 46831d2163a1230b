"""Deletion of what came from users: exchanges, reactions, items, and the snapshots that hold some.

The order matters: folders of snapshots go first, then the rows. After a crash in between, the same call ends the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.data import snapshots
from heedful.feedback import items, lineage
from heedful.feedback.collected import Decision, Exchange, Origin, ServedUser
from heedful.feedback.schema import REACTIONS, Event, FrozenSnapshot, Item, SnapshotEvent
from heedful.runs.listing import found_under

BATCH = 500
OUTSIDE = "runs outside of the folder, perhaps"


@dataclass(frozen=True)
class Held:
    """Snapshots with words of a user: those that no run has read, and those with their runs."""

    unused: tuple[FrozenSnapshot, ...]
    used: tuple[tuple[FrozenSnapshot, tuple[str, ...]], ...]


def exchanges_of(db: Session, user_ids: Sequence[int]) -> list[str]:
    return list(db.scalars(sa.select(Exchange.id).where(Exchange.user_id.in_(user_ids)).order_by(Exchange.id)))


def items_of(db: Session, user_ids: Sequence[int]) -> list[int]:
    """Items with words of users: reactions, and the queue's items that curation made."""
    return list(db.scalars(sa.select(Origin.item_id).where(Origin.user_id.in_(user_ids)).order_by(Origin.item_id)))


def items_from(db: Session, exchange_ids: Sequence[str]) -> list[int]:
    """Items that came from some exchanges."""
    found: list[int] = []
    for start in range(0, len(exchange_ids), BATCH):
        chosen = sa.select(Origin.item_id).where(Origin.exchange_id.in_(exchange_ids[start : start + BATCH]))
        found += db.scalars(chosen)
    return sorted(found)


def held(db: Session, item_ids: Sequence[int], folders: Sequence[str | Path]) -> Held:
    """The snapshots that hold judgements of items. `folders` are searched for runs.

    A snapshot outside of them stays: runs that nobody searched for may have read it, and a copy of the database knows
    the snapshots of the original.
    """
    ids: set[int] = set()
    for start in range(0, len(item_ids), BATCH):
        chosen = sa.select(SnapshotEvent.snapshot_id).join(Event, Event.id == SnapshotEvent.event_id)
        ids |= set(db.scalars(chosen.where(Event.item_id.in_(item_ids[start : start + BATCH]))))
    found = [db.get_one(FrozenSnapshot, number) for number in sorted(ids)]
    artifacts = found_under(folders) if found else []
    readers = {each.id: tuple(lineage.holding(artifacts, {each.sha256})) for each in found}
    readers |= {each.id: (OUTSIDE,) for each in found if not readers[each.id] and _is_outside(each, folders)}
    return Held(
        tuple(each for each in found if not readers[each.id]),
        tuple((each, readers[each.id]) for each in found if readers[each.id]),
    )


def _is_outside(frozen: FrozenSnapshot, folders: Sequence[str | Path]) -> bool:
    """Whether a snapshot is still there, and in none of some folders."""
    path = Path(frozen.path)
    below = any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)
    return not below and snapshots.holds(path, frozen.sha256)


def delete_folders(unused: Sequence[FrozenSnapshot]) -> list[str]:
    """Delete the folders of snapshots. Returns those that stay, because they are another snapshot by now."""
    kept = []
    for frozen in unused:
        path = Path(frozen.path)
        if snapshots.holds(path, frozen.sha256):
            shutil.rmtree(path)
        elif path.exists():
            kept.append(frozen.path)
    return kept


def remove_snapshots(db: Session, unused: Sequence[FrozenSnapshot]) -> None:
    """Delete the rows of snapshots."""
    for frozen in unused:
        db.execute(sa.delete(SnapshotEvent).where(SnapshotEvent.snapshot_id == frozen.id))
        db.execute(sa.delete(FrozenSnapshot).where(FrozenSnapshot.id == frozen.id))


def remove_exchanges(db: Session, exchange_ids: Sequence[str]) -> None:
    """Delete exchanges with what curation decided about them."""
    for start in range(0, len(exchange_ids), BATCH):
        some = exchange_ids[start : start + BATCH]
        db.execute(sa.delete(Decision).where(Decision.exchange_id.in_(some)))
        db.execute(sa.delete(Exchange).where(Exchange.id.in_(some)))


def remove_items(db: Session, item_ids: Sequence[int], why: str, now: datetime, *, by: int | None) -> int:
    """Remove the texts of items and of all their judgements. Events and hashes stay."""
    removed = 0
    for item_id in item_ids:
        item = db.get_one(Item, item_id)
        if item.redacted is None:
            items.redact(db, item.project_id, item.ref, why, now, by=by)
            removed += 1
    for start in range(0, len(item_ids), BATCH):
        db.execute(sa.delete(Origin).where(Origin.item_id.in_(item_ids[start : start + BATCH])))
    return removed


def outdated(db: Session, item_ids: Sequence[int]) -> list[int]:
    """The items that retention deletes: no labeler has judged them, and no snapshot holds them."""
    kept: set[int] = set()
    for start in range(0, len(item_ids), BATCH):
        some = Item.id.in_(item_ids[start : start + BATCH])
        judged = sa.select(Item.id).where(some, Item.kind.not_in(REACTIONS), Item.taken > 0)
        frozen = sa.select(Event.item_id).join(SnapshotEvent, SnapshotEvent.event_id == Event.id)
        frozen = frozen.join(Item, Item.id == Event.item_id).where(some)
        kept |= {*db.scalars(judged), *db.scalars(frozen)}
    return [item_id for item_id in item_ids if item_id not in kept]


def remove_users(db: Session, user_ids: Sequence[int]) -> None:
    """Delete the entries of users who have nothing left."""
    db.execute(sa.delete(ServedUser).where(ServedUser.id.in_(user_ids)))
