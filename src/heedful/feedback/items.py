"""Items of work: import them into the queue, and manage them there."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, undefer

from heedful.config import UserError
from heedful.data import formats
from heedful.data.reading.streams import USUAL, FileLimits
from heedful.data.records import Choice, Comparison, Completions, Record
from heedful.data.text import counted
from heedful.feedback import assignment, events, informative, judgements, people, projects
from heedful.feedback.columns import digest, printable
from heedful.feedback.judgements import PromptRequest
from heedful.feedback.projects import ProjectSettings
from heedful.feedback.schema import KINDS, PURPOSES, SHARED, Assignment, Event, Item, Kind, Purpose
from heedful.feedback.search import ItemFilters, searched

MOST_COMPLETIONS = 9  # K of D10
BATCH = 500
Which = str | Sequence[str] | ItemFilters
"""Items of a project: a ref, several, or all that pass the filters. Redacted ones are never meant."""
OF_JUDGEMENTS = {"ranking", "none_acceptable", "ratings", "order", "labeler", "group", "preferred", "scores"}
"""Fields of a record that an item keeps apart from its payload, or not at all."""
OF_COMPLETIONS = {"completions", "completion", "models", "finish", "token_ids"}
"""Fields that a demonstration's payload does not have."""


@dataclass(frozen=True)
class Added:
    """Result of an import: new items, and rows left out because the project has them already."""

    items: int
    known: int
    refs: tuple[str, ...]


def add(
    db: Session,
    project_id: int,
    kind: Kind,
    records: Sequence[Record],
    now: datetime,
    *,
    by: int | None,
    purpose: Purpose = "train",
    source: str | None = None,
    priority: int = 0,
    wanted: int | None = None,
    gold: Sequence[dict[str, Any] | None] | None = None,
    explanations: Sequence[str | None] | None = None,
    again: bool = False,
    logged: bool = True,
) -> Added:
    """Add records to the queue: `Prompt` for demonstrations, `Completions` (K >= 2) for rankings, `Versus` for choices,
    `PromptRequest` for prompts. A `Comparison` or a `Choice` brings its known answer.

    `wanted` labelers judge each item. None: one labeler, or `copies` for the share that the project doubles. `gold`:
    the known answer of each, a judgement in indices. Rankings and choices for gold, attention, screening and practice
    need one. Texts that the project has already in that kind and purpose are left out, unless `again`. `logged` false:
    the caller logs what it did. UserError for a record that does not fit its kind.
    """
    project = projects.lock(db, project_id)
    settings = ProjectSettings.model_validate(project.settings)
    if purpose not in PURPOSES:
        raise UserError(f"purpose: {purpose!r} is none of {', '.join(PURPOSES)}")
    if kind not in KINDS:
        raise UserError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    rows = []
    for number, record in enumerate(records):
        row = _row(kind, record, f"row {number + 1}", gold[number] if gold else None, purpose)
        row |= {"explanation": explanations[number] if explanations else None, "source": source or row["source"]}
        draws = random.Random(f"{project_id}/{purpose}/{row['texts_sha256']}/{number if kind == 'prompt' else ''}")
        row |= {"draw": draws.random(), "double_draw": draws.random(), "purpose": purpose, "priority": priority}
        row["wanted"] = _wanted(row, settings, wanted)
        row["rank"] = informative.rank(settings.policy, row["scores"], row["draw"])
        rows.append({**row, "project_id": project_id, "created": now, "ref": secrets.token_urlsafe(12)})
    fresh = rows if again or kind == "prompt" else _unknown(db, project_id, kind, purpose, rows)
    for start in range(0, len(fresh), BATCH):
        db.execute(sa.insert(Item), fresh[start : start + BATCH])
    added = Added(len(fresh), len(rows) - len(fresh), tuple(row["ref"] for row in fresh))
    detail = {"kind": kind, "purpose": purpose, "items": added.items, "known": added.known}
    if logged:
        people.audit(db, by, "add items", printable(source or ""), detail, project_id, now=now)
    return added


def for_reaction(
    db: Session, project_id: int, kind: Kind, payload: Record, now: datetime, *, purpose: Purpose = "use"
) -> Item:
    """An item that holds what a user of a served model reacts to. The user judges it at once, and nobody else."""
    row = _row(kind, payload, kind, None, purpose)
    item = Item(
        **row, project_id=project_id, purpose=purpose, created=now, ref=secrets.token_urlsafe(12), draw=0.0,
        double_draw=0.0, rank=0.0, wanted=1,
    )  # fmt: skip
    db.add(item)
    db.flush()
    return item


def check(kind: Kind, records: Sequence[Record], purpose: Purpose) -> None:
    """UserError for the first record that `add` would refuse."""
    for number, record in enumerate(records, 1):
        _row(kind, record, f"row {number}", None, purpose)


def ask_for_prompts(
    db: Session,
    project_id: int,
    form: str,
    count: int,
    now: datetime,
    *,
    by: int | None,
    use_case: str | None = None,
    about: str | None = None,
) -> Added:
    """Add `count` items that each ask for one prompt (D1)."""
    request = PromptRequest.model_validate({"form": form, "use_case": use_case, "about": about})
    return add(db, project_id, "prompt", [request] * count, now, by=by)


def read_scores(path: str | Path, limits: FileLimits = USUAL) -> list[Completions]:
    """Read a file of `heedful score`: completions with `scores`."""
    scored = formats.read(path, Completions, limits=limits)
    if any(record.scores is None for record in scored):
        raise UserError(f"{path}: a row without scores. Give a file written by `heedful score`")
    return scored


def import_scores(db: Session, project_id: int, records: Sequence[Completions], name: str) -> int:
    """Store scores (from `read_scores`) as those of reward model `name`, and return the number of items they belong to.

    Prompt and completions identify an item.
    """
    settings = ProjectSettings.model_validate(projects.lock(db, project_id).settings)
    scored = 0
    for record in records:
        assert record.scores is not None
        chosen = sa.select(Item).where(
            Item.project_id == project_id, Item.texts_sha256 == _texts_sha256("ranking", record), Item.kind == "ranking"
        )
        for item in db.scalars(chosen.options(undefer(Item.scores))):
            item.scores = {**(item.scores or {}), name: record.scores}
            item.rank = informative.rank(settings.policy, item.scores, item.draw)
            scored += 1
    if not scored:
        raise UserError(f"{name}: scores no item of this project. Score the file that was imported")
    return scored


def by_ref(db: Session, project_id: int, ref: str) -> Item | None:
    """The item of a ref, all columns loaded, or None."""
    chosen = sa.select(Item).where(Item.ref == printable(ref), Item.project_id == project_id)
    return db.scalar(chosen.options(undefer("*")))


def counts(db: Session, project_id: int) -> list[tuple[Kind, Purpose, bool, int]]:
    """Numbers of items: (kind, purpose, whether open, number)."""
    columns = (Item.kind, Item.purpose, Item.open)
    chosen = sa.select(*columns, sa.func.count()).where(Item.project_id == project_id).group_by(*columns)
    return [(kind, purpose, open, number) for kind, purpose, open, number in db.execute(chosen.order_by(*columns))]


def change(
    db: Session,
    project_id: int,
    which: Which,
    now: datetime,
    *,
    by: int | None,
    priority: int | None = None,
    wanted: int | None = None,
    held: str | None = None,
) -> int:
    """Change what is given of items, and return their number: 0 if nothing is given.

    `priority`: the highest goes first. `wanted`: how many labelers judge each. `held`: why they are on hold, and ""
    releases them.
    """
    where, values = _where(db, project_id, which), dict[str, Any]()
    if priority is not None:
        values["priority"] = priority
    if wanted is not None:
        _check_wanted(db, where, wanted)
        values["wanted"] = wanted
    if held is not None:
        values["held"] = printable(held) or None
    if wanted is not None or held is not None:
        number = sa.literal(wanted) if wanted is not None else Item.wanted
        on_hold = Item.held.is_not(None) if held is None else sa.literal(bool(held))
        values["open"] = sa.and_(sa.not_(on_hold), sa.or_(number.is_(None), Item.taken < number))
    if not values:
        return 0
    chosen = sa.select(Item.id).where(*where)
    changed = sa.update(Item).where(Item.id.in_(chosen)).values(values)
    count: int = db.execute(changed.execution_options(synchronize_session="fetch")).rowcount  # type: ignore[attr-defined]
    if held is not None:
        named = f"item {which}" if isinstance(which, str) else counted(count, "items")
        people.audit(db, by, "hold" if held else "release", named, project_id=project_id, now=now)
    return count


def _check_wanted(db: Session, where: list[sa.ColumnElement[bool]], wanted: int) -> None:
    shared = db.scalar(sa.select(Item.ref).where(*where, Item.purpose.in_(SHARED)).order_by(Item.id).limit(1))
    if shared is not None or wanted < 1:
        named = f"{shared}: " if shared is not None else ""
        raise UserError(f"{named}items with a known answer go to everybody, others to one labeler or more")


def set_gold(
    db: Session,
    project_id: int,
    ref: str,
    purpose: Purpose,
    answer: dict[str, Any],
    explanation: str | None,
    now: datetime,
    *,
    by: int,
) -> str:
    """Copy an item with a known answer (in indices), for everybody to judge once. Returns the ref of the copy."""
    item = _one(db, project_id, ref)
    if purpose not in SHARED:
        raise UserError(f"purpose: {purpose!r} is none of {', '.join(SHARED)}")
    record = judgements.PAYLOADS[item.kind].model_validate(item.payload)
    added = add(
        db, project_id, item.kind, [record], now,
        by=by, purpose=purpose, source=item.source, gold=[answer], explanations=[explanation],
    )  # fmt: skip
    if not added.refs:
        raise UserError(f"{ref}: there is a {purpose} item of these texts already")
    return added.refs[0]


def redact(db: Session, project_id: int, ref: str, why: str, now: datetime, *, by: int | None) -> None:
    """Remove the texts of an item and of all its judgements for good. Events and hashes stay."""
    item = _one(db, project_id, ref)
    item.payload, item.gold, item.explanation, item.scores, item.redacted = {}, None, None, None, now
    item.searched, item.use_case = "", None
    for event in db.scalars(sa.select(Event).where(Event.item_id == item.id)):
        events.blank(db, event, now)
    db.execute(sa.update(Assignment).where(Assignment.item_id == item.id).values(draft=None))
    leases = sa.update(Assignment).where(Assignment.item_id == item.id, Assignment.state == "leased")
    db.execute(leases.where(Assignment.expires > now).values(expires=now))
    assignment.refresh(db, item)
    people.audit(db, by, "redact", f"item {ref}", {"why": why}, project_id, now=now)


def _row(kind: Kind, record: Record, where: str, gold: dict[str, Any] | None, purpose: Purpose) -> dict[str, Any]:
    """The columns of an item that follow from its record alone."""
    if isinstance(record, Comparison) and gold is None:
        told = {"ranking", "none_acceptable", "ratings"}
        gold = {key: value for key, value in record.row().items() if key in told}
    elif isinstance(record, Choice) and gold is None:
        gold = {"preferred": record.preferred, "none_acceptable": record.none_acceptable or None}
    wanted_type = judgements.PAYLOADS[kind]
    scores = record.row().get("scores")
    dropped = OF_JUDGEMENTS | (OF_COMPLETIONS if kind == "demonstration" else set())
    given = {key: value for key, value in record.row().items() if key not in dropped}
    missing = [name for name, field in wanted_type.model_fields.items() if field.is_required() and name not in given]
    if missing:
        raise UserError(f"{where}: has no {' or '.join(missing)}, which a {kind} needs. Choose another kind of work")
    payload = wanted_type.model_validate(given)
    K = len(judgements.completions(payload))
    if kind == "ranking" and not 2 <= K <= MOST_COMPLETIONS:
        raise UserError(f"{where}: has {K} completions. Rankings take 2 to {MOST_COMPLETIONS}")
    if gold is not None:
        gold = judgements.check(kind, gold, payload).model_dump(mode="json", exclude_none=True)
    elif purpose in SHARED and K:
        raise UserError(f"{where}: {purpose} items need a known answer. Give comparisons or choices")
    return {
        "kind": kind,
        "payload": payload.row(),
        "payload_sha256": digest(payload.row()),
        "prompt_sha256": digest(payload.row().get("prompt")),
        "texts_sha256": _texts_sha256(kind, payload),
        "gold": gold,
        "scores": {"imported": scores} if scores is not None else None,
        "source": printable(given["source"]) if given.get("source") else None,
        "use_case": printable(given["use_case"]) if given.get("use_case") else None,
        "searched": searched(payload.row()),
    }


def _texts_sha256(kind: Kind, payload: Record) -> str:
    texts = [kind, payload.row().get("prompt"), judgements.completions(payload)]
    if isinstance(payload, PromptRequest):
        texts.append(payload.row())
    return digest(texts)


def _wanted(row: dict[str, Any], settings: ProjectSettings, wanted: int | None) -> int | None:
    if row["purpose"] in SHARED:
        return None
    if wanted is not None or row["kind"] == "prompt":
        return wanted or 1
    return settings.copies if row["double_draw"] < settings.double_share else 1


def _unknown(
    db: Session, project_id: int, kind: Kind, purpose: Purpose, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows whose texts are new to the project, each only once."""
    fresh = {row["texts_sha256"]: row for row in reversed(rows)}
    known: set[str] = set()
    names = list(fresh)
    for start in range(0, len(names), BATCH):
        chosen = sa.select(Item.texts_sha256).where(
            Item.project_id == project_id,
            Item.texts_sha256.in_(names[start : start + BATCH]),
            Item.kind == kind,
            Item.purpose == purpose,
        )
        known |= set(db.scalars(chosen))
    return [row for name, row in reversed(fresh.items()) if name not in known]


def _one(db: Session, project_id: int, ref: str) -> Item:
    projects.lock(db, project_id)
    item = by_ref(db, project_id, ref)
    if item is None or item.redacted is not None:
        raise UserError(_absent(ref))
    return item


def _absent(ref: str) -> str:
    return f"item {ref}: not in this project, or redacted"


def _where(db: Session, project_id: int, which: Which) -> list[sa.ColumnElement[bool]]:
    """The condition of the items that are meant. UserError if one of them does not exist."""
    projects.lock(db, project_id)
    there = [Item.project_id == project_id, Item.redacted.is_(None)]
    if isinstance(which, ItemFilters):
        return [*there, *which.where(project_id)]
    refs = [which] if isinstance(which, str) else list(which)
    chosen = Item.ref.in_([printable(ref) for ref in refs])
    missing = set(refs) - set(db.scalars(sa.select(Item.ref).where(*there, chosen)))
    if missing:
        raise UserError(_absent(min(missing)))
    return [*there, chosen]
