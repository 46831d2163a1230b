"""From a run back to the judgements that shaped it, and from a labeler forward to snapshots and runs.

A run's manifest names its data by hash and its models by run id; the store knows which snapshot has a hash, and which
events a snapshot holds. PPO is followed to its reward model, from there to the snapshot of rankings, and so on.
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
from heedful.feedback.columns import printable
from heedful.feedback.schema import Event, FrozenSnapshot, Item, Kind, Person, Project, SnapshotEvent
from heedful.runs.manifest import NAME, Manifest, Source, manifest_path


@dataclass(frozen=True)
class Shaped:
    """One judgement behind a run."""

    event: int
    hash: str
    project: str
    labeler: str
    kind: Kind
    item: str
    when: datetime
    snapshot: str
    """The folder of the snapshot that holds it."""


@dataclass(frozen=True)
class Use:
    """A snapshot in the ancestry of a run: `through` are the runs from the one asked for to the one that read it."""

    snapshot: FrozenSnapshot
    role: str
    """As which file it was read: data, eval_data, demonstrations, ..."""
    through: tuple[str, ...]


@dataclass(frozen=True)
class Ancestry:
    """What a run was made from. `unknown`: data and models that neither the store nor a manifest tells of."""

    run: str
    uses: tuple[Use, ...]
    judgements: tuple[Shaped, ...]
    unknown: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "run": self.run,
            "snapshots": [{**_told(use.snapshot), "role": use.role, "through": use.through} for use in self.uses],
            "labelers": dict(Counter(one.labeler for one in self.judgements)),
            "judgements": [{**asdict(one), "when": one.when.isoformat()} for one in self.judgements],
            "unknown": self.unknown,
        }

    def lines(self) -> Iterator[str]:
        """For people: the snapshots, then every judgement, columns apart by tabs."""
        yield self.run
        for use in self.uses:
            shown = use.snapshot
            yield f"  {shown.path}: {shown.rows:,} {shown.records} rows, {use.role} of {' < '.join(use.through[::-1])}"
        by_labeler = Counter(one.labeler for one in self.judgements).most_common()
        named = ", ".join(f"{name} {count:,}" for name, count in by_labeler)
        yield f"  {len(self.judgements):,} judgements" + (f": {named}" if named else "")
        for source in self.unknown:
            yield f"  not from here: {source}"
        for one in self.judgements:
            when = one.when.isoformat(timespec="seconds")
            yield "\t".join((when, one.labeler, one.kind, one.project, one.item, one.hash[:16], one.snapshot))


@dataclass(frozen=True)
class Whereabouts:
    """Where a labeler's work went: (snapshot, how many of its judgements are hers), and the runs that hold them."""

    labeler: str
    snapshots: tuple[tuple[FrozenSnapshot, int], ...]
    runs: tuple[str, ...]

    def row(self) -> dict[str, Any]:
        """JSON-able."""
        snapshots = [{**_told(snapshot), "hers": count} for snapshot, count in self.snapshots]
        return {"labeler": self.labeler, "snapshots": snapshots, "runs": self.runs}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield self.labeler
        for snapshot, count in self.snapshots:
            yield f"  {snapshot.path}: {count:,} of {snapshot.rows:,} {snapshot.records} rows"
        yield from (f"  {run}" for run in self.runs)
        if not self.snapshots:
            yield "  in no snapshot"


@dataclass(frozen=True)
class Made:
    """A run, or a file of rows, and its manifest."""

    path: Path
    manifest: Manifest


def of_run(db: Session, run: str | Path, folders: Sequence[str | Path] = ()) -> Ancestry:
    """What shaped a run, a checkpoint or model of one, or a file of rows with a manifest beside it.

    Parents lie where the manifest says, or under `folders`. Raises UserError where there is no manifest.
    """
    start = _made(Path(run))
    known = {made.manifest.id: made for made in found_under(folders)}
    uses: list[Use] = []
    unknown: list[str] = []
    waiting: list[tuple[Made, tuple[str, ...]]] = [(start, (str(start.path),))]
    seen = {start.manifest.id}
    while waiting:
        made, through = waiting.pop(0)
        for role, data in made.manifest.data.items():
            snapshots = _snapshots(db, data)
            uses += [Use(snapshot, role, through) for snapshot in snapshots]
            source = _beside(Path(data.get("path", "")))
            if source is not None:
                waiting += _unseen(source, through, seen)
            elif not snapshots:
                unknown.append(f"{data.get('path')} ({role} of {made.path})")
        for role, parent in made.manifest.parents.items():
            source = _parent(parent, made.path, known)
            if source is not None:
                waiting += _unseen(source, through, seen)
            else:
                unknown.append(f"{parent.get('ref')} ({role} of {made.path})")
    ids = list(dict.fromkeys(use.snapshot.id for use in uses))
    return Ancestry(str(run), tuple(uses), tuple(_judgements(db, ids)), tuple(dict.fromkeys(unknown)))


def of_labeler(db: Session, name: str, folders: Sequence[str | Path] = ()) -> Whereabouts:
    """Snapshots that hold her work, and runs under `folders` that were made from them, by whatever way."""
    person = db.scalar(sa.select(Person).where(Person.name == printable(name)))
    if person is None:
        raise UserError(f"{name}: no labeler of this name")
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
    return Whereabouts(person.name, snapshots, tuple(_holding(found_under(folders), hashes)))


def found_under(folders: Sequence[str | Path]) -> list[Made]:
    """Every run and every file of rows with a manifest, in the order of their paths."""
    paths = {path for folder in folders for path in Path(folder).rglob(f"*{NAME}")}
    return [made for path in sorted(paths) if (made := _read(path)) is not None]


def _holding(all_made: list[Made], hashes: set[str]) -> Iterator[str]:
    """The paths of what was made from data of these hashes, or from a parent that was."""
    by_id = {made.manifest.id: made for made in all_made}
    held: dict[str, bool] = {}

    def holds(made: Made) -> bool:
        name = str(made.path.resolve())
        if name not in held:
            held[name] = False  # whatever a broken manifest says, nothing is its own ancestor
            data, parents = made.manifest.data.values(), made.manifest.parents.values()
            sources = [_beside(Path(each.get("path", ""))) for each in data]
            sources += [_parent(parent, made.path, by_id) for parent in parents]
            read = any(each.get("sha256") in hashes for each in data)
            held[name] = read or any(source is not None and holds(source) for source in sources)
        return held[name]

    return (str(made.path) for made in all_made if holds(made))


def _judgements(db: Session, snapshot_ids: list[int]) -> Iterator[Shaped]:
    for snapshot_id in snapshot_ids:
        chosen = (
            sa.select(Event, Project.name, Person.name, Item.kind, Item.ref, FrozenSnapshot.path)
            .join(SnapshotEvent, SnapshotEvent.event_id == Event.id)
            .join(FrozenSnapshot, FrozenSnapshot.id == SnapshotEvent.snapshot_id)
            .join(Person, Person.id == Event.person_id)
            .join(Project, Project.id == Event.project_id)
            .join(Item, Item.id == Event.item_id)
            .where(FrozenSnapshot.id == snapshot_id)
            .order_by(Event.id)
        )
        for event, project, labeler, kind, item, path in db.execute(chosen.execution_options(yield_per=1000)):
            yield Shaped(event.id, event.hash, project, labeler, kind, item, event.when, path)


def _snapshots(db: Session, data: dict[str, Any]) -> list[FrozenSnapshot]:
    """Those of a hash; equal rows are equal wherever they were frozen, so the first stands for all."""
    chosen = sa.select(FrozenSnapshot).where(FrozenSnapshot.sha256 == str(data.get("sha256")))
    return list(db.scalars(chosen.order_by(FrozenSnapshot.id).limit(1)))


def _told(snapshot: FrozenSnapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in ("path", "sha256", "records", "rows")}


def _unseen(made: Made, through: tuple[str, ...], seen: set[Any]) -> list[tuple[Made, tuple[str, ...]]]:
    if made.manifest.id in seen:
        return []
    seen.add(made.manifest.id)
    return [(made, (*through, str(made.path)))]


def _parent(parent: Source, child: Path, known: dict[str, Made]) -> Made | None:
    """The run at the place that the manifest names, if it still has that id. Else the known run of that id."""
    for place in (Path(parent.get("ref", "")), child.parent / Path(parent.get("ref", "")).name):
        made = _read(place / NAME)
        if made is not None and made.manifest.id == parent.get("run"):
            return made
    return known.get(parent.get("run", ""))


def _beside(file: Path) -> Made | None:
    """A file of samples or scores has its manifest next to it."""
    return _read(manifest_path(file)) if file.name else None


def _made(path: Path) -> Made:
    for place in (path, *path.resolve().parents):
        found = _beside(place) or _read(place / NAME)
        if found is not None:
            return found
    raise UserError(f"{path}: no {NAME} there or above. Give a run, a checkpoint of one, or a file it made")


def _read(path: Path) -> Made | None:
    """A manifest of ours, or None for any other file."""
    manifest = Manifest.read_or_none(path)
    if manifest is None:
        return None
    return Made(path.parent if path.name == NAME else path.with_name(path.name.removesuffix(f".{NAME}")), manifest)
