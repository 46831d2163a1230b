"""Retention: what users sent is deleted after some days, from the store, their chats and the files of rounds.

Reactions to it and items that nobody has judged go, too. What a labeler judged and what a snapshot holds stays. So does
a file of a round that a training has read. Snapshots, files and runs that hold some are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.collection import removal, round_files
from heedful.collection.removal import Held
from heedful.collection.round_files import Cleared
from heedful.data.text import counted
from heedful.feedback import chats
from heedful.feedback.collected import Exchange, Origin
from heedful.feedback.schema import Item
from heedful.feedback.store import Store

WHY = "older than the retention"
TOO_OLD = "holds exchanges that are too old"


@dataclass(frozen=True)
class Expired:
    """What was too old: numbers of what is gone, and what holds some all the same."""

    exchanges: int
    items: int
    """Reactions and items of the queue."""
    labelled: int
    """Items of the queue that stay, because a labeler judged them or a snapshot holds them."""
    turns: int
    """Messages and answers of chats."""
    snapshots: Held
    files: Cleared

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        used = [{"snapshot": frozen.path, "runs": list(runs)} for frozen, runs in self.snapshots.used]
        return {
            "exchanges": self.exchanges, "items": self.items, "labelled": self.labelled, "turns": self.turns,
            "used": used, "unused_snapshots": [frozen.path for frozen in self.snapshots.unused], **self.files.row(),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Lines for people."""
        told = [f"{counted(self.exchanges, 'exchanges')} and {self.items:,} reactions and items are gone"]
        if self.turns:
            told.append(f"{counted(self.turns, 'messages')} and answers of chats are gone")
        told += [f"{path}: lost the rows that are too old" for path in self.files.cleared]
        if self.labelled:
            told.append(f"{self.labelled:,} items stay, with labels. `heedful forget --user` deletes those of a user")
        return told + self.remains()

    def remains(self) -> list[str]:
        """A line for each snapshot and each file of a round that holds some and stays."""
        told = []
        for frozen in self.snapshots.unused:
            told.append(f"{frozen.path}: {TOO_OLD}. No run has read this snapshot. Delete it unless you need it")
        for frozen, runs in self.snapshots.used:
            made = ", ".join(runs)
            told.append(f"{frozen.path}: {TOO_OLD}. The snapshot stays, because these were made from it: {made}")
        for path, why in self.files.kept:
            told.append(f"{path}: a file of a round, which {TOO_OLD}. It stays, because of {', '.join(why)}")
        return told


def sweep(store: Store, days: int, folders: Sequence[str | Path], now: datetime) -> Expired:
    """Delete exchanges, picks and turns of chats that are older than some days.

    `folders` are searched for runs and rounds.

    Files come before the rows of the store. After a crash in between, the next call ends the work.
    """
    before = now - timedelta(days=days)
    with store.reading() as db:
        old = _exchanges(db, before)
        found = removal.items_from(db, old)
        held = removal.held(db, found, folders)
    files = round_files.clear_older(folders, old, before)
    with store.writing() as db:
        old, picks = _exchanges(db, before), _picks(db, before)
        found = [*removal.items_from(db, old), *picks]
        gone = removal.outdated(db, found)
        removal.remove_items(db, gone, WHY, now, by=None)
        removal.remove_exchanges(db, old)
        turns = chats.delete_older(db, before)
    if old or gone or turns:
        store.scrub()
    return Expired(len(old), len(gone), len(found) - len(gone), turns, held, files)


def _exchanges(db: Session, before: datetime) -> list[str]:
    return list(db.scalars(sa.select(Exchange.id).where(Exchange.started < before)))


def _picks(db: Session, before: datetime) -> list[int]:
    """Picks between texts of no stored exchange."""
    chosen = sa.select(Item.id).join(Origin, Origin.item_id == Item.id).where(Origin.exchange_id.is_(None))
    return list(db.scalars(chosen.where(Item.kind == "pick", Item.created < before)))
