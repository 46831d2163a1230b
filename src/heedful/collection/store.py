"""What is kept of the requests to served models: from users who agreed, a share of them, for some days.

    collection = Collection(store, CollectionConfig())
    if collection.wants(user, consent, refused):   # before anything of the request is held
        ...
        collection.keep(exchange)                  # in a thread: it waits for the disk

Users see and delete what is kept of them: `of_user`, `delete`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.collection import react, removal, retention, round_files, users
from heedful.collection.removal import Held
from heedful.collection.round_files import Cleared
from heedful.collection.settings import CollectionConfig, Terms
from heedful.config import UserError
from heedful.feedback import chats
from heedful.feedback.collected import Exchange, Origin
from heedful.feedback.columns import printable
from heedful.feedback.schema import ApiKey, Event, Item, Person
from heedful.feedback.store import Store

BATCH = 50
log = logging.getLogger("heedful.collection")


class AnsweredRequest(Protocol):
    """A request that was answered, as the server tells it (`serve.types.Exchange`)."""

    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def key_id(self) -> int | None: ...
    @property
    def consent(self) -> str | None: ...
    @property
    def model(self) -> str: ...
    @property
    def upstream(self) -> bool: ...
    @property
    def messages(self) -> list[dict[str, Any]] | None: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def answers(self) -> list[str]: ...
    @property
    def finish(self) -> list[str]: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def started(self) -> datetime: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True)
class Kept:
    """An exchange that is stored, with the reactions to it, as its user sees it."""

    exchange: Exchange
    user: str
    reactions: tuple[tuple[str, dict[str, Any]], ...]
    """Kind and content of each that stands."""
    model: str | None
    """None for one of two answers, until the user has chosen."""


class Collection:
    """The collector of a server. It is safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        config: CollectionConfig,
        *,
        folders: Sequence[str | Path] = (),
        draw: Callable[[], float] = random.random,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`folders` are searched for runs and rounds that hold what is too old."""
        self.store, self.config, self.folders, self._draw, self._clock = store, config, folders, draw, clock
        self._told: set[str] = set()

    def terms(self) -> Terms | None:
        """What people agree to. None if nothing is ever stored."""
        config = self.config
        return Terms(config.version, config.consent, config.days) if config.rate else None

    def wants(self, user: str, consent: str | None, refused: bool) -> bool:
        """Whether to keep a request. Agreement to another version of the text does not count."""
        return not refused and consent == self.config.version and self._draw() < self.config.rate

    def keep(self, exchange: AnsweredRequest) -> None:
        """Store an exchange. What came back is on the disk."""
        with self.store.writing() as db:
            add(db, exchange, self._clock())

    def sweep(self) -> None:
        """Delete what is too old. What holds some all the same is logged once."""
        lines = retention.sweep(self.store, self.config.days, self.folders, self._clock()).remains()
        for line in lines:
            if line not in self._told:
                log.warning("%s", line)
        self._told = set(lines)


def add(db: Session, exchange: AnsweredRequest, now: datetime) -> str | None:
    """Store an exchange, and return its id. The same one again changes nothing.

    None if the key has withdrawn its consent while the model answered, or if its account was deleted. Upstream servers
    choose ids themselves. Another exchange with a known id gets a number at its end.
    """
    if exchange.consent is None:
        raise UserError("an exchange without consent is never stored")
    key = db.get(ApiKey, exchange.key_id) if exchange.key_id is not None else None
    if key is not None and (key.consent != exchange.consent or db.get_one(Person, key.person_id).deleted is not None):
        return None
    user = users.enter(db, exchange.user, now, exchange.key_id)
    row = {
        "user_id": user.id,
        "key_id": exchange.key_id,
        "consent": printable(exchange.consent, 100),
        "model": printable(exchange.model),
        "upstream": exchange.upstream,
        "prompt": exchange.prompt if exchange.messages is None else exchange.messages,
        "answers": list(exchange.answers),
        "finish": list(exchange.finish),
        "settings": dict(exchange.settings),
        "started": exchange.started,
        "seconds": exchange.seconds,
    }
    name, number = printable(exchange.id, 90), 1
    place = name
    while (known := db.get(Exchange, place)) is not None:
        if all(getattr(known, key) == value for key, value in row.items()):
            return place
        number += 1
        place = f"{name}#{number}"
    db.add(Exchange(id=place, **row))
    db.flush()
    return place


def of_user(db: Session, user: str, *, before: str | None = None, limit: int = 50) -> list[Kept]:
    """What is stored of a user, or of all users of an account: the newest first. `before`: an id, for the next page."""
    mine = [one.id for one in users.find(db, user)]
    chosen = sa.select(Exchange).where(Exchange.user_id.in_(mine))
    if before is not None:
        last = _own(db, user, before)
        chosen = chosen.where(
            sa.or_(Exchange.started < last.started, sa.and_(Exchange.started == last.started, Exchange.id < last.id))
        )
    found = list(db.scalars(chosen.order_by(Exchange.started.desc(), Exchange.id.desc()).limit(limit)))
    return _kept(db, found)


def all_of_user(store: Store, user: str) -> Iterator[Kept]:
    """All that is stored of a user, or of all users of an account, read a few at a time."""
    with store.reading() as db:
        ids = removal.exchanges_of(db, [one.id for one in users.find(db, user)])
    for start in range(0, len(ids), BATCH):
        with store.reading() as db:
            found = db.scalars(sa.select(Exchange).where(Exchange.id.in_(ids[start : start + BATCH])))
            some = _kept(db, found.all())
        yield from sorted(some, key=lambda one: (one.exchange.started, one.exchange.id))


def _kept(db: Session, found: Sequence[Exchange]) -> list[Kept]:
    unnamed = chats.unchosen(db, [one.id for one in found])
    return [
        Kept(
            one, users.name_of(db, one.user_id), tuple(_reactions(db, one.id)), None if one.id in unnamed else one.model
        )
        for one in found
    ]  # fmt: skip


def picks_of_user(db: Session, user: str) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(ref, payload, content) of each pick of a user that stands. No exchange is named in it."""
    mine = [one.id for one in users.find(db, user)]
    chosen = (
        sa.select(Item.ref, Item.payload, Event.content)
        .join(Origin, Origin.item_id == Item.id)
        .join(Event, Event.item_id == Item.id)
        .where(Origin.user_id.in_(mine), Item.kind == "pick", Item.redacted.is_(None), Item.held.is_(None))
        .where(Event.kind == "judgement", Event.content.is_not(None))
    )
    return [(ref, payload, content) for ref, payload, content in db.execute(chosen.order_by(Item.id))]


@dataclass(frozen=True)
class Gone:
    """What a deletion found besides the exchanges: snapshots, and files of rounds."""

    snapshots: Held
    """Those that held some. The unused ones are deleted."""
    files: Cleared

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        used = [{"snapshot": frozen.path, "runs": list(runs)} for frozen, runs in self.snapshots.used]
        deleted = [frozen.path for frozen in self.snapshots.unused]
        return {"deleted_snapshots": deleted, "used": used, **self.files.row()}


def delete(store: Store, user: str, exchange_id: str, folders: Sequence[str | Path], now: datetime) -> Gone:
    """Delete an exchange of a user, the reactions to it, and what was made of it.

    Snapshots and files of rounds that no run has read lose it, too. The others stay, and are named.
    """
    with store.reading() as db:
        exchange = _own(db, user, exchange_id).id
    return delete_several(store, user, [exchange], [], folders, now)


def delete_several(
    store: Store, user: str, exchange_ids: Sequence[str], picks: Sequence[str], folders: Sequence[str | Path],
    now: datetime,
) -> Gone:  # fmt: skip
    """Delete exchanges of a user as `delete` does, and picks of theirs by their refs. Unknown ones are left out."""
    with store.reading() as db:
        mine = [one.id for one in users.find(db, user)]
        chosen = sa.select(Exchange.id).where(Exchange.id.in_(exchange_ids), Exchange.user_id.in_(mine))
        exchanges = list(db.scalars(chosen))
        picked = sa.select(Item.id).join(Origin, Origin.item_id == Item.id)
        picked = picked.where(Item.ref.in_(picks), Origin.user_id.in_(mine))
        found = sorted({*removal.items_from(db, exchanges), *db.scalars(picked)})
        held = removal.held(db, found, folders)
        by = users.account(db, user).id
    files = round_files.clear_exchanges(folders, exchanges)
    removal.delete_folders(held.unused)
    with store.writing() as db:
        removal.remove_snapshots(db, held.unused)
        removal.remove_items(db, found, "deleted by their user", now, by=by)
        removal.remove_exchanges(db, exchanges)
    store.scrub()
    return Gone(held, files)


def count(db: Session) -> int:
    """Number of exchanges that are stored."""
    return db.scalar(sa.select(sa.func.count()).select_from(Exchange)) or 0


def _own(db: Session, user: str, exchange_id: str) -> Exchange:
    found = db.get(Exchange, printable(exchange_id, 100))
    if found is None or found.user_id not in {one.id for one in users.find(db, user)}:
        raise UserError(f"{exchange_id}: nothing of yours is stored under this id")
    return found


def _reactions(db: Session, exchange_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, content) for kind, _, content in react.of_exchange(db, exchange_id)]
