"""What people do in a round: answers enter the queue, labels are waited for, judgements are frozen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.collection.round_files import OWN
from heedful.config import UserError
from heedful.data import formats, snapshots
from heedful.data.records import Completions, Prompt
from heedful.evaluation.answers import key
from heedful.feedback import items, projects
from heedful.feedback import snapshots as frozen
from heedful.feedback.collected import Exchange, Origin
from heedful.feedback.schema import FrozenSnapshot, Item, Project
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store
from heedful.rounds.state import Round, Waiting

SECOND = ". Each item has one. The others are second opinions, which other labelers give"


def project_of(db: Session, name: str) -> Project:
    """The project of a name. Raises UserError."""
    found = projects.by_name(db, name)
    if found is None:
        raise UserError(f"{name}: no such project in the database. Check `project` in the plan")
    return found


def queue(store: Store, one: Round, rows: Sequence[Completions], exchanges: dict[str, str]) -> dict[str, Any]:
    """Put the answers of a round into the labelling project. Again, it adds what is missing."""
    plain = for_labelers(rows)
    with store.writing() as db:
        project = project_of(db, one.plan.project)
        added = items.add(db, project.id, "ranking", plain, datetime.now(UTC), by=None, source=one.source)
        note_origins(db, project.id, one.source, exchanges)
    return {"items": added.items, "known": added.known}


def for_labelers(rows: Sequence[Completions]) -> list[Completions]:
    """Rows without the fields that only the files of rounds need."""
    return [Completions.model_validate({k: v for k, v in row.row().items() if k not in OWN}) for row in rows]


def note_origins(db: Session, project_id: int, source: str, exchanges: dict[str, str]) -> None:
    """Note whose words the items of a source hold, so that forgetting a user finds them.

    `exchanges`: by key of the prompt.
    """
    known = sa.select(Origin.item_id).where(Origin.item_id == Item.id)
    chosen = sa.select(Item).where(Item.project_id == project_id, Item.source == source, ~known.exists())
    for item in db.scalars(chosen.options(undefer(Item.payload))).all():
        name = exchanges.get(key(Prompt.model_validate(item.payload).prompt)) if item.redacted is None else None
        exchange = db.get(Exchange, name) if name is not None else None
        if exchange is not None:
            db.add(Origin(item_id=item.id, user_id=exchange.user_id, exchange_id=exchange.id, answer=0))
    db.flush()


def labels(db: Session, project: str, source: str) -> tuple[int, int]:
    """(labels so far, labels wanted) of the items of a source, without those on hold and those that are redacted."""
    found = db.execute(sa.select(Item.taken, Item.wanted).where(*_open(db, project, source))).all()
    return sum(min(taken, wanted or 1) for taken, wanted in found), sum(wanted or 1 for _, wanted in found)


def _open(db: Session, project: str, source: str) -> tuple[sa.ColumnElement[bool], ...]:
    of = (Item.project_id == project_of(db, project).id, Item.source == source, Item.kind == "ranking")
    return (*of, Item.held.is_(None), Item.redacted.is_(None))


def wait(store: Store, project: str, source: str, share: float) -> dict[str, Any]:
    """Raise Waiting until a share of the labels of a source is there."""
    with store.reading() as db:
        there, wanted = labels(db, project, source)
        untouched = db.scalar(sa.select(Item.id).where(*_open(db, project, source), Item.taken == 0).limit(1))
    if not wanted:
        raise UserError(f"{project}: has no item of {source} left. Begin another round, or skip this step")
    if there < share * wanted:
        raise Waiting(f"{there:,} of {wanted:,} labels" + (SECOND if not untouched else ""))
    return {"labels": there, "wanted": wanted}


def freeze(store: Store, project: str, filters: Filters, out: Path) -> dict[str, Any]:
    """Freeze judgements. A snapshot that an interrupted call has registered stays as it is, any other is made again."""
    with store.reading() as db:
        number = project_of(db, project).id
        known = set(db.scalars(sa.select(FrozenSnapshot.sha256).where(FrozenSnapshot.path == str(out.resolve()))))
    if out.is_dir() and (found := snapshots.open_snapshot(out)).sha256 in known:
        return {"rows": found.rows, "sha256": found.sha256}
    shutil.rmtree(out, ignore_errors=True)
    made = frozen.freeze(store, number, out, filters, datetime.now(UTC), by=None)
    return {"rows": made.rows, "sha256": made.sha256}


def exchanges_of(path: Path) -> dict[str, str]:
    """The exchange of each prompt of a file, by the key of the prompt. Files of other origin have none."""
    rows = formats.read(str(path), Prompt)
    return {key(row.prompt): told["exchange"] for row in rows if "exchange" in (told := row.model_extra or {})}
