"""Lineage: from a run back to its judgements, and from a labeler forward to snapshots and runs.

The manifest of a run names its data by hash and its models by run id. The store knows the snapshot of a hash and the
events of a snapshot. So a PPO run leads to its reward model, that to its snapshot of rankings, and so on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.data import snapshots
from heedful.data.text import counted, rows_told
from heedful.feedback.columns import printable
from heedful.feedback.schema import Audit, Event, FrozenSnapshot, Item, Kind, Person, Project, SnapshotEvent
from heedful.runs.listing import Artifact, found_under, read_artifact
from heedful.runs.manifest import NAME, Source, manifest_path

PLACED, REDO = ("promote", "rollback"), "redo"
"""Actions of the audit log that put a model behind a server."""


@dataclass(frozen=True)
class SourceJudgement:
    """One judgement behind a run."""

    event: int
    hash: str
    project: str
    labeler: str
    kind: Kind
    item: str
    when: datetime
    snapshot: str
    """The folder of the snapshot that contains it."""
    model: str | None = None
    """The model that judged. None: a person did."""


@dataclass(frozen=True)
class SnapshotUse:
    """A snapshot behind a run. `through`: the runs from the one asked for to the one that read the snapshot.

    Empty for a snapshot that was asked for itself.
    """

    snapshot: FrozenSnapshot
    role: str
    """The option that named it: data, eval_data, demonstrations, ..."""
    through: tuple[str, ...]


@dataclass(frozen=True)
class RunLineage:
    """What a run was made from. `unknown`: data and models that neither the store nor a manifest knows."""

    run: str
    uses: tuple[SnapshotUse, ...]
    judgements: tuple[SourceJudgement, ...]
    unknown: tuple[str, ...]
    placed: tuple[dict[str, Any], ...] = ()
    """Promotions of the run behind a server, and rollbacks to it: who, when, why, and the figures."""
    redone: tuple[dict[str, Any], ...] = ()
    """How a round was done again, in which the run replaced another one or was replaced."""

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "run": self.run,
            "snapshots": [{**_summary(use.snapshot), "role": use.role, "through": use.through} for use in self.uses],
            "labelers": dict(Counter(one.labeler for one in self.judgements)),
            "judgements": [{**asdict(one), "when": one.when.isoformat()} for one in self.judgements],
            "unknown": self.unknown,
            "placed": self.placed,
            "redone": self.redone,
        }

    def lines(self) -> Iterator[str]:
        """Lines for people: the snapshots, then all judgements with tabs between the columns."""
        yield self.run
        for entry in self.placed:
            figures = "; ".join(entry.get("figures", {}).get("reasons", []))
            told = f"  {entry['action']} as {entry['model']}, {entry['when']}, by {entry['who']}: {entry['why']}"
            yield told + (f" ({figures})" if figures else "")
        for entry in self.redone:
            told = f"  round {entry['round']} done again from {entry['step']}, {entry['when']}, by {entry['who']}"
            ways = " ".join(f"{old} -> {new}" for old, new in entry["replaced"].items() if _is(self.run, old, new))
            yield f"{told}: {entry['why']} ({ways})"
        for use in self.uses:
            shown, of = use.snapshot, " < ".join(use.through[::-1])
            yield f"  {shown.path}: {rows_told(shown.rows, shown.records)}" + (f", {use.role} of {of}" if of else "")
        by_labeler = Counter(one.labeler for one in self.judgements).most_common()
        named = ", ".join(f"{name} {count:,}" for name, count in by_labeler)
        by_models = sum(one.model is not None for one in self.judgements)
        number = counted(len(self.judgements), "judgements")
        number += f", {by_models:,} of them by models" if by_models else ""
        yield f"  {number}" + (f": {named}" if named else "")
        for source in self.unknown:
            yield f"  not from here: {source}"
        for one in self.judgements:
            when = one.when.isoformat(timespec="seconds")
            yield "\t".join((when, one.labeler, one.kind, one.project, one.item, one.hash[:16], one.snapshot))


@dataclass(frozen=True)
class LabelerLineage:
    """Where a labeler's work went: (snapshot, number of its judgements by the labeler), and runs made from those."""

    labeler: str
    snapshots: tuple[tuple[FrozenSnapshot, int], ...]
    runs: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        snapshots = [{**_summary(snapshot), "judgements": count} for snapshot, count in self.snapshots]
        return {"labeler": self.labeler, "snapshots": snapshots, "runs": self.runs}

    def lines(self) -> Iterator[str]:
        """Lines for people."""
        yield self.labeler
        for snapshot, count in self.snapshots:
            yield f"  {snapshot.path}: {count:,} of {rows_told(snapshot.rows, snapshot.records)}"
        yield from (f"  {run}" for run in self.runs)
        if not self.snapshots:
            yield "  in no snapshot"


def of_run(db: Session, run: str | Path, folders: Sequence[str | Path] = ()) -> RunLineage:
    """The lineage of a run, of its checkpoint or model, or of a file of rows with a manifest next to it.

    A snapshot shows its own judgements. Parents are where the manifest says, or under `folders`. Raises UserError if
    there is no manifest.
    """
    if snapshots.is_snapshot(run):
        known_as = _snapshots(db, {"sha256": snapshots.open_snapshot(run).sha256})
        asked = tuple(SnapshotUse(one, "snapshot", ()) for one in known_as)
        missing = () if asked else (f"{run} (the database does not know this snapshot)",)
        return RunLineage(str(run), asked, tuple(_judgements(db, [use.snapshot.id for use in asked])), missing)
    start = _artifact(Path(run))
    known = {artifact.manifest.id: artifact for artifact in found_under(folders)}
    uses: list[SnapshotUse] = []
    unknown: list[str] = []
    waiting: list[tuple[Artifact, tuple[str, ...]]] = [(start, (str(start.path),))]
    seen = {start.manifest.id}
    while waiting:
        artifact, through = waiting.pop(0)
        for role, data in artifact.manifest.data.items():
            frozen = _snapshots(db, data)
            uses += [SnapshotUse(snapshot, role, through) for snapshot in frozen]
            source = _of_file(Path(data.get("path", "")))
            if source is not None:
                waiting += _unseen(source, through, seen)
            elif not frozen:
                unknown.append(f"{data.get('path')} ({role} of {artifact.path})")
        for role, parent in artifact.manifest.parents.items():
            source = _parent(parent, artifact.path, known)
            if source is not None:
                waiting += _unseen(source, through, seen)
            else:
                unknown.append(f"{parent.get('ref')} ({role} of {artifact.path})")
    ids = list(dict.fromkeys(use.snapshot.id for use in uses))
    return RunLineage(
        str(run),
        tuple(uses),
        tuple(_judgements(db, ids)),
        tuple(dict.fromkeys(unknown)),
        _placed(db, start.path),
        _redone(db, start.path),
    )


def _placed(db: Session, path: Path) -> tuple[dict[str, Any], ...]:
    """The entries of the audit log that put a run behind a server, the oldest first."""
    chosen = sa.select(Audit.detail).where(Audit.action.in_(PLACED)).order_by(Audit.id)
    return tuple(detail for detail in db.scalars(chosen) if Path(detail["path"]).resolve() == path.resolve())


def _redone(db: Session, path: Path) -> tuple[dict[str, Any], ...]:
    """The entries of the audit log by which a run replaced another one in its round, or was replaced."""
    chosen = db.scalars(sa.select(Audit.detail).where(Audit.action == REDO).order_by(Audit.id))
    return tuple(entry for entry in chosen if any(_is(path, *both) for both in entry["replaced"].items()))


def _is(run: str | Path, *paths: str) -> bool:
    """Whether a run is one of some paths."""
    return Path(run).resolve() in {Path(path).resolve() for path in paths}


def of_labeler(db: Session, name: str, folders: Sequence[str | Path] = ()) -> LabelerLineage:
    """Snapshots with a labeler's work, and runs under `folders` that were made from them, directly or not."""
    person = db.scalar(sa.select(Person).where(Person.name == printable(name)))
    if person is None:
        raise UserError(f"{name}: no labeler has this name")
    counted = (
        sa.select(FrozenSnapshot, sa.func.count())
        .join(SnapshotEvent, SnapshotEvent.snapshot_id == FrozenSnapshot.id)
        .join(Event, Event.id == SnapshotEvent.event_id)
        .where(Event.person_id == person.id)
        .group_by(FrozenSnapshot.id)
        .order_by(FrozenSnapshot.id)
    )
    snapshots = tuple((snapshot, number) for snapshot, number in db.execute(counted))
    hashes = {snapshot.sha256 for snapshot, _ in snapshots}
    return LabelerLineage(person.name, snapshots, tuple(holding(found_under(folders), hashes)))


def holding(artifacts: list[Artifact], hashes: set[str]) -> Iterator[str]:
    """Paths of artifacts made from data with these hashes, or from a parent that was."""
    by_id = {artifact.manifest.id: artifact for artifact in artifacts}
    held: dict[str, bool] = {}

    def holds(artifact: Artifact) -> bool:
        name = str(artifact.path.resolve())
        if name not in held:
            held[name] = False  # whatever a broken manifest says, nothing is its own ancestor
            data, parents = artifact.manifest.data.values(), artifact.manifest.parents.values()
            sources = [_of_file(Path(each.get("path", ""))) for each in data]
            sources += [_parent(parent, artifact.path, by_id) for parent in parents]
            read = any(each.get("sha256") in hashes for each in data)
            held[name] = read or any(source is not None and holds(source) for source in sources)
        return held[name]

    return (str(artifact.path) for artifact in artifacts if holds(artifact))


def _judgements(db: Session, snapshot_ids: list[int]) -> Iterator[SourceJudgement]:
    for snapshot_id in snapshot_ids:
        chosen = (
            sa.select(Event, Project.name, Person.name, Person.model, Item.kind, Item.ref, FrozenSnapshot.path)
            .join(SnapshotEvent, SnapshotEvent.event_id == Event.id)
            .join(FrozenSnapshot, FrozenSnapshot.id == SnapshotEvent.snapshot_id)
            .join(Person, Person.id == Event.person_id)
            .join(Project, Project.id == Event.project_id)
            .join(Item, Item.id == Event.item_id)
            .where(FrozenSnapshot.id == snapshot_id)
            .order_by(Event.id)
        )
        for event, project, labeler, model, kind, item, path in db.execute(chosen.execution_options(yield_per=1000)):
            yield SourceJudgement(event.id, event.hash, project, labeler, kind, item, event.when, path, model)


def _snapshots(db: Session, data: dict[str, Any]) -> list[FrozenSnapshot]:
    """The first snapshot with this hash of rows. Later ones have the same rows."""
    chosen = sa.select(FrozenSnapshot).where(FrozenSnapshot.sha256 == str(data.get("sha256")))
    return list(db.scalars(chosen.order_by(FrozenSnapshot.id).limit(1)))


def _summary(snapshot: FrozenSnapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in ("path", "sha256", "records", "rows")}


def _unseen(artifact: Artifact, through: tuple[str, ...], seen: set[Any]) -> list[tuple[Artifact, tuple[str, ...]]]:
    if artifact.manifest.id in seen:
        return []
    seen.add(artifact.manifest.id)
    return [(artifact, (*through, str(artifact.path)))]


def _parent(parent: Source, child: Path, known: dict[str, Artifact]) -> Artifact | None:
    """The run at the place that the manifest names, if it still has that id. Else the known run of that id."""
    for place in (Path(parent.get("ref", "")), child.parent / Path(parent.get("ref", "")).name):
        artifact = read_artifact(place / NAME)
        if artifact is not None and artifact.manifest.id == parent.get("run"):
            return artifact
    return known.get(parent.get("run", ""))


def _of_file(file: Path) -> Artifact | None:
    """A file of samples or scores has its manifest next to it."""
    return read_artifact(manifest_path(file)) if file.name else None


def _artifact(path: Path) -> Artifact:
    for place in (path, *path.resolve().parents):
        found = _of_file(place) or read_artifact(place / NAME)
        if found is not None:
            return found
    raise UserError(f"{path}: no {NAME} there or above. Give a run, a checkpoint, a file that it made, or a snapshot")
