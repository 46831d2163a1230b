"""Forget a user: all that they sent, what was said about it, and what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heedful.collection import removal, round_files, users
from heedful.collection.round_files import Cleared
from heedful.data.text import counted
from heedful.feedback import chats, events, people
from heedful.feedback.store import Store


@dataclass(frozen=True)
class Forgotten:
    """What is gone, and what holds words of the user all the same."""

    exchanges: int
    items: int
    """Thumbs, edits, picks and items of the queue."""
    chats: int
    snapshots: tuple[str, ...]
    """Folders of unused snapshots that were deleted."""
    changed: tuple[str, ...]
    """Folders that were unused snapshots and hold something else by now. They stay."""
    used: tuple[tuple[str, tuple[str, ...]], ...]
    """(folder of a snapshot, what was made from it) of each snapshot that stays, because a run has read it."""
    files: Cleared
    """Files of rounds that lost rows of the user, and those that hold some all the same."""

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        used = [{"snapshot": path, "runs": list(runs)} for path, runs in self.used]
        counts = {"exchanges": self.exchanges, "items": self.items, "chats": self.chats}
        return {
            **counts,
            "deleted_snapshots": self.snapshots,
            "changed_snapshots": self.changed,
            "used": used,
            **self.files.row(),
        }

    def lines(self) -> list[str]:
        """Lines for people."""
        told = [f"{counted(self.exchanges, 'exchanges')} and {self.items:,} reactions and items are gone"]
        if self.chats:
            told.append(f"{counted(self.chats, 'chats')} of the playground {'is' if self.chats == 1 else 'are'} gone")
        told += [f"{path}: deleted, no run has read it" for path in self.snapshots]
        told += [f"{path}: is another snapshot by now. Look yourself whether it holds some" for path in self.changed]
        for path, runs in self.used:
            told.append(f"{path}: holds some. It stays, because these were made from it: {', '.join(runs)}")
        told += [f"{path}: the user's rows are gone from this file of a round" for path in self.files.cleared]
        for path, runs in self.files.kept:
            told.append(f"{path}: a file of a round, which holds some. It stays, because of {', '.join(runs)}")
        if self.files.kept:
            told.append("Go on with rounds that are under way and forget again. Delete other files with their runs")
        if self.used:
            told.append("Delete these snapshots and runs yourself, or train again without them")
        return told


def forget(store: Store, user: str, folders: Sequence[str | Path], now: datetime, *, by: int | None) -> Forgotten:
    """Delete all that is kept of a user, or of all users of an account with its chats. Logged.

    `folders` are searched for runs and rounds.

    The account stays. UserError if there is no such account.
    """
    with store.reading() as db:
        mine = [one.id for one in users.find(db, user)]
        account = users.account(db, user).id
        exchanges = removal.exchanges_of(db, mine)
        found = sorted({*removal.items_of(db, mine), *removal.items_from(db, exchanges)})
        held = removal.held(db, found, folders)
    files = round_files.clear(folders, mine)
    changed = removal.delete_folders(held.unused)
    with store.writing() as db:
        removal.remove_snapshots(db, held.unused)
        # what came in meanwhile goes, too
        exchanges = removal.exchanges_of(db, mine)
        found = sorted({*removal.items_of(db, mine), *removal.items_from(db, exchanges)})
        removed = removal.remove_items(db, found, "their user is forgotten", now, by=by)
        removal.remove_exchanges(db, exchanges)
        removal.remove_users(db, mine)
        talked = chats.count(db, account) if users.is_account(db, user) else 0
        if talked:
            chats.delete_all(db, account)
        detail = {"exchanges": len(exchanges), "items": removed, "chats": talked}
        people.audit(db, by, "forget", f"person {account}", detail, now=now)
    store.scrub()
    used = tuple((each.path, runs) for each, runs in held.used)
    deleted = tuple(each.path for each in held.unused if each.path not in changed)
    return Forgotten(len(exchanges), removed, talked, deleted, tuple(changed), used, files)


def delete_account(
    store: Store, person_id: int, folders: Sequence[str | Path], now: datetime, *, by: int | None
) -> list[str]:
    """Delete a person: what is kept of them as a user, and their account (`events.delete_person`).

    Returns the paths of snapshots that still hold words of theirs.
    """
    with store.writing() as db:
        person = events.check_deletable(db, person_id)
        served = users.find(db, person.name)
    used = forget(store, person.name, folders, now, by=by).used if served else ()
    with store.writing() as db:
        paths = events.delete_person(db, person_id, now, by=by)
    store.scrub()
    return sorted({*paths, *(path for path, _ in used)})
