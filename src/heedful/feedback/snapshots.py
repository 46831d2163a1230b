"""Freeze judgements that count into files."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import Field, field_validator, model_validator
from sqlalchemy.orm import Session

from heedful.config import Config, Share, UserError
from heedful.data import snapshots
from heedful.data.records import Choice, Comparison, Demonstration, Edit, Pick, Prompt, Record, Thumb
from heedful.feedback import models, people, readings
from heedful.feedback.judgements import PromptJudgement
from heedful.feedback.quality.types import Ranking, preferences
from heedful.feedback.readings import MadeBy
from heedful.feedback.schema import REACTIONS, Event, FrozenSnapshot, Kind, Project, Purpose, Role, SnapshotEvent
from heedful.feedback.store import Store

RecordKind = Literal["demonstration", "comparison", "choice", "prompt", "thumb", "edit", "pick"]
BATCH = 1000

KIND: dict[RecordKind, Kind] = {
    "demonstration": "demonstration",
    "comparison": "ranking",
    "choice": "choice",
    "prompt": "prompt",
    "thumb": "thumb",
    "edit": "edit",
    "pick": "pick",
}


class Filters(Config):
    """Which judgements a snapshot holds. An empty list means all."""

    records: RecordKind
    """What the judgements are. `comparison` means rankings, `prompt` means prompts written by labelers. `thumb`, `edit`
    and `pick` are what users of served models said. Roles and purposes do not matter for these three.
    """
    as_choices: bool = False
    """Write picks and thumbs as choices, so that reward training reads them. Without it no reward learns from them.
    Only blind picks count. A thumb up and a thumb down for two answers to one prompt make a choice.
    """
    since: datetime | None = None
    """Only judgements from this time on. A time without a zone is UTC."""
    until: datetime | None = None
    """Only judgements before this time."""
    made_by: MadeBy = "people"
    """Whose judgements: those of people, of models that label, or both. Models judge rankings and choices. Their
    agreement with people is measured first, and without any the snapshot is refused.
    """
    model_weight: float = Field(1.0, gt=0, le=100)
    """Weight of each judgement of a model, where one of a person has 1. The reward model learns with it."""
    labelers: tuple[str, ...] = ()
    """Only the work of these labelers."""
    groups: tuple[str, ...] = ()
    """Only the work of these groups of labelers."""
    roles: tuple[Role | Literal["user"], ...] = ("labeler", "lead", "user")
    """Only the work of these roles. The work of held-out labelers (held_out) makes an evaluation file. The work of
    users (user) is their edits that a lead accepted as demonstrations.
    """
    sources: tuple[str, ...] = ()
    """Only items from these sources."""
    purposes: tuple[Purpose, ...] = ("train",)
    """Only items for these purposes."""
    least_agreement: Share | None = None
    """Of items with several judgements, only those with at least this pairwise agreement, 0 to 1 (D12)."""
    least_judgements: int = Field(1, ge=1, le=1000)
    """Only items with at least this many judgements."""

    @model_validator(mode="after")
    def _choices_of_reactions(self) -> Filters:
        if self.as_choices and self.records not in ("thumb", "pick"):
            raise ValueError(f"as_choices is for thumbs and picks. Rows of {self.records} have one form only")
        return self

    @model_validator(mode="after")
    def _of_models(self) -> Filters:
        if self.made_by != "people" and self.records not in ("comparison", "choice"):
            raise ValueError(f"made_by = {self.made_by}: models judge comparisons and choices, not {self.records} rows")
        if self.made_by == "people" and self.model_weight != 1:
            raise ValueError("model_weight: is for judgements of models. Set made_by too, or leave it out")
        return self

    @field_validator("since", "until")
    @classmethod
    def _aware(cls, time: datetime | None) -> datetime | None:
        return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


def records(db: Session, project_id: int, filters: Filters) -> list[tuple[int, Record]]:
    """(event, record) of each judgement that passes, in the order of events."""
    return _records(_passing(db, project_id, filters), filters)


def freeze(
    store: Store, project_id: int, directory: str | Path, filters: Filters, now: datetime, *, by: int | None
) -> FrozenSnapshot:
    """Write judgements as a snapshot (`data.snapshots`) and record its events. People can work meanwhile.

    Judgements of items on hold are left out, and `left_out` in the filters counts them. UserError if nothing passes
    the filters or the directory holds something else.
    """
    directory = Path(directory).resolve()
    there = directory.exists()
    with store.reading() as db:
        project = db.get_one(Project, project_id).name
        passing = _passing(db, project_id, filters)
    found = _records(passing, filters)
    told = {"project": project, **filters.model_dump(mode="json", exclude_defaults=True)}
    if held := len(passing) - len(found):
        told["left_out"] = {"held": held}
    if held and not found:
        raise UserError(f"{directory}: nothing to freeze. All items that pass are on hold. Check them first")
    if filters.made_by != "people":
        told["agreement"] = _agreement(store, project_id, {row.labeler for row in passing if row.model is not None})
    directory.parent.mkdir(parents=True, exist_ok=True)
    written = snapshots.freeze([record for _, record in found], directory, told)
    events = sorted({event for event, _ in found})
    if filters.records == "thumb":  # a choice is made of two
        events = [row.event_id for row in passing if row.held is None]
    with store.writing() as db:
        if _redacted(db, events):
            if not there:
                shutil.rmtree(directory)
            raise UserError(f"{directory}: a judgement was redacted meanwhile. Freeze it again")
        chosen = sa.select(FrozenSnapshot).where(
            FrozenSnapshot.path == str(directory),
            FrozenSnapshot.sha256 == written.sha256,
            FrozenSnapshot.project_id == project_id,
        )
        known = db.scalar(chosen)
        if known is not None:
            return known
        frozen = FrozenSnapshot(
            project_id=project_id, path=str(directory), records=written.records, rows=written.rows,
            sha256=written.sha256, filters=told, created=now, created_by=by,
        )  # fmt: skip
        db.add(frozen)
        db.flush()
        rows = [{"snapshot_id": frozen.id, "event_id": event} for event in events]
        for start in range(0, len(rows), BATCH):
            db.execute(sa.insert(SnapshotEvent), rows[start : start + BATCH])
        detail = {"rows": frozen.rows, "sha256": frozen.sha256} | ({"held": held} if held else {})
        people.audit(db, by, "snapshot", directory.name, detail, project_id, now=now)
    return frozen


def listing(db: Session, project_id: int) -> list[FrozenSnapshot]:
    """The newest first."""
    chosen = sa.select(FrozenSnapshot).where(FrozenSnapshot.project_id == project_id)
    return list(db.scalars(chosen.order_by(FrozenSnapshot.id.desc())))


def agreement(rankings: Iterable[Ranking]) -> float | None:
    """Share of pairs that two labelers order the same way, of pairs that neither ties (S C.2). None without one."""
    same = total = 0
    for one, other in combinations([preferences(ranking) for ranking in rankings], 2):
        sides = [side * other[pair] for pair, side in one.items() if side and other[pair]]
        same, total = same + sides.count(1), total + len(sides)
    return same / total if total else None


def _passing(db: Session, project_id: int, filters: Filters) -> list[Any]:
    """The judgements that pass the filters, including those of items on hold."""
    kind = KIND[filters.records]
    purposes: tuple[Purpose, ...] = ("use",) if kind in REACTIONS else filters.purposes
    everyone = list(db.execute(readings.standing(project_id, (kind,), purposes, filters.made_by)))
    items = _fitting_items(everyone, filters)
    return [row for row in everyone if row.item_id in items and _passes(row, filters)]


def _records(passing: list[Any], filters: Filters) -> list[tuple[int, Record]]:
    """(event, record) of each, without items on hold: they may contain personal data."""
    passing = [row for row in passing if row.held is None]
    if filters.records == "thumb" and filters.as_choices:
        return list(_opposed(passing))
    if filters.records == "pick" and filters.as_choices:
        return [(row.event_id, _chosen(row)) for row in passing if row.payload["blind"]]
    make: dict[RecordKind, Callable[[Any], Record]] = {
        "demonstration": _demonstration, "comparison": _comparison, "choice": _choice, "prompt": _prompt,
        "thumb": _thumb, "edit": _edit, "pick": _pick,
    }  # fmt: skip
    return [(row.event_id, _marked(make[filters.records](row), row, filters)) for row in passing]


def _marked(record: Record, row: Any, filters: Filters) -> Record:
    """The record, with the model that judged and its weight if it was no person."""
    if row.model is None:
        return record
    weight = {"weight": filters.model_weight} if filters.model_weight != 1 else {}
    return record.model_copy(update={"labeler_model": row.model, **weight})


def _agreement(store: Store, project_id: int, names: set[str]) -> dict[str, str]:
    """How far the models agree with people, by name. UserError if nothing says whether one does."""
    with store.reading() as db:
        found = [one for one in models.agreement(db, project_id) if one.name in names]
    for one in found:
        if one.rate is None:
            raise UserError(
                f"{one.name}: people judged none of the same answers, so nothing says whether it agrees with them. Let "
                "people judge some of its items first"
            )
    return {one.name: one.line() for one in found}


def _passes(row: Any, filters: Filters) -> bool:
    return (
        (row.role in filters.roles or row.kind in REACTIONS)
        and (not filters.labelers or row.labeler in filters.labelers)
        and (not filters.groups or row.group in filters.groups)
        and (not filters.sources or row.source in filters.sources)
        and (filters.since is None or row.when >= filters.since)
        and (filters.until is None or row.when < filters.until)
    )


def _fitting_items(rows: list[Any], filters: Filters) -> set[int]:
    """Items with enough judgements and agreement. Here all judgements count, also those that do not pass."""
    by_item: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        by_item[row.item_id].append(row)
    fitting = {item for item, judged in by_item.items() if len(judged) >= filters.least_judgements}
    if filters.least_agreement is None or filters.records not in ("comparison", "choice"):
        return fitting
    shares = {item: agreement(readings.ranking(row.kind, row.content) for row in by_item[item]) for item in fitting}
    return {item for item, share in shares.items() if share is None or share >= filters.least_agreement}


def _redacted(db: Session, events: list[int]) -> bool:
    for start in range(0, len(events), BATCH):
        chosen = sa.select(Event.id).where(Event.id.in_(events[start : start + BATCH]), Event.redacted.is_not(None))
        if db.scalar(chosen.limit(1)) is not None:
            return True
    return False


def _about(row: Any) -> dict[str, Any]:
    """Fields that every record has about its judgement."""
    about = {
        "labeler": row.labeler, "group": row.group, "item": row.ref, "judgement": row.hash,
        "judged": row.when.isoformat(timespec="seconds"), "seconds": row.seconds, "instructions": row.instructions,
        "note": row.content.get("note"), "role": "held_out" if row.role == "held_out" else None,
    }  # fmt: skip
    return {key: value for key, value in about.items() if value is not None}


def _demonstration(row: Any) -> Demonstration:
    return Demonstration.model_validate({**row.payload, "completion": row.content["completion"], **_about(row)})


def _comparison(row: Any) -> Comparison:
    told = {key: row.content[key] for key in ("ranking", "none_acceptable", "ratings") if key in row.content}
    return Comparison.model_validate({**row.payload, **told, "order": row.shown, **_about(row)})


def _choice(row: Any) -> Choice:
    told = {key: row.content[key] for key in ("preferred", "none_acceptable") if key in row.content}
    told["order"] = row.shown
    return Choice.model_validate({**row.payload, **told, **_about(row)})


def _prompt(row: Any) -> Prompt:
    """The author of a prompt is its user, so that a split by user (D2) keeps their prompts together."""
    judgement = PromptJudgement.model_validate(row.content)
    extras = {"form": row.payload["form"], "use_case": judgement.use_case or row.payload.get("use_case")}
    if judgement.shots:
        shots = [shot.model_dump() for shot in judgement.shots]
        extras |= {"instruction": judgement.prompt, "shots": shots, "query": judgement.query}
    about = _about(row)
    return Prompt.model_validate(
        {"prompt": judgement.text(), "user": about["labeler"], "source": "labeler", **extras, **about}
    )


def _thumb(row: Any) -> Thumb:
    return Thumb.model_validate({**row.payload, **row.content, **_about(row)})


def _edit(row: Any) -> Edit:
    return Edit.model_validate({**row.payload, "edited": row.content["text"], **_about(row)})


def _pick(row: Any) -> Pick:
    payload = {key: value for key, value in row.payload.items() if key not in ("a", "b")}
    sides = {"left": row.payload["a"], "right": row.payload["b"]}
    return Pick.model_validate({**payload, **sides, "outcome": row.content["outcome"], **_about(row)})


def _chosen(row: Any) -> Choice:
    payload = {key: value for key, value in row.payload.items() if key not in ("settings", "blind")}
    return Choice.model_validate({**payload, **_pick(row).choice(), "judged_as": "pick", **_about(row)})


def _opposed(rows: list[Any]) -> Iterator[tuple[int, Choice]]:
    """A choice for each thumb up and thumb down of different answers to one prompt, as the event of the thumb up."""
    by_prompt: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_prompt[row.prompt_sha256].append(row)
    for judged in by_prompt.values():
        for better in judged:
            for worse in judged:
                said = better.payload["answer"], worse.payload["answer"]
                if better.content["up"] and not worse.content["up"] and said[0]["text"] != said[1]["text"]:
                    payload = {key: value for key, value in better.payload.items() if key not in ("answer", "settings")}
                    told = {"a": said[0], "b": said[1], "preferred": "a", "judged_as": "thumb", **_about(better)}
                    yield better.event_id, Choice.model_validate({**payload, **told})
