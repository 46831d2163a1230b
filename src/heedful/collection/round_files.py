"""Rows of forgotten users, and of exchanges that are deleted or too old, in the files of rounds.

They are removed, unless a training has read the file.


A training that has read a file stays reproducible only with it, so file and training are named. A file that an
unfinished step reads is named, too: the step could not go on with another file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from heedful.config import UserError
from heedful.data import formats
from heedful.data.reading.sources import snapshot_rows
from heedful.files import Lock, Row, rows_of, write_text
from heedful.runs.listing import Artifact, found_under
from heedful.runs.manifest import NAME, Manifest, manifest_path

ROUNDS, PARTIAL = "rounds", ".partial"
AT_WORK = "a round is at work here"
PROMPTS, GATE = CHOSEN = ("prompts.jsonl", "gate.jsonl")
"""Files in which a round and its gate keep the prompts of users. A gate that is done again has gate-2.jsonl."""
SENT = "sent"
"""Field of a row: when its user sent the prompt."""
OWN = ("exchange", SENT)
"""Fields with which this module finds rows. No labeler and no snapshot needs them."""


@dataclass(frozen=True)
class Cleared:
    """Files that lost rows, and files that hold rows all the same, with what was made of them or what needs them."""

    cleared: tuple[str, ...] = ()
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def row(self) -> Row:
        """JSON-able."""
        return {
            "cleared_files": list(self.cleared),
            "used_files": [{"file": path, "runs": list(runs)} for path, runs in self.kept],
        }


def clear(folders: Sequence[str | Path], user_ids: Sequence[int]) -> Cleared:
    """Remove the rows of users from the files under the `rounds` of each folder. Snapshots are left out."""
    names = {f"user-{number}" for number in user_ids}
    return _clear(folders, lambda row: row.get("user") in names)


def clear_exchanges(folders: Sequence[str | Path], exchange_ids: Sequence[str]) -> Cleared:
    """Remove the rows of exchanges, as `clear` does with those of users."""
    gone = set(exchange_ids)
    return _clear(folders, lambda row: row.get("exchange") in gone)


def clear_older(folders: Sequence[str | Path], exchange_ids: Sequence[str], before: datetime) -> Cleared:
    """Remove the rows of exchanges, and all rows that were sent before a time.

    Without such exchanges it reads only the files in which a round and its gate keep their prompts.
    """
    gone = set(exchange_ids)

    def is_gone(row: Row) -> bool:
        return row.get("exchange") in gone or is_older(row, before)

    due = gone or any(
        is_older(row, before)
        for folder in folders
        for name in CHOSEN
        for path in (Path(folder) / ROUNDS).glob(f"*/{pattern(name)}")
        for row in rows_of(path)
    )
    return _clear(folders, is_gone) if due else Cleared()


def pattern(name: str) -> str:
    """The names of a file of CHOSEN, for glob."""
    return name.replace(".", "*.")


def is_older(row: Row, before: datetime) -> bool:
    """Whether a row says that it was sent before a time."""
    try:
        return datetime.fromisoformat(row[SENT]) < before
    except (KeyError, TypeError, ValueError):  # says nothing, or is not ours
        return False


def _clear(folders: Sequence[str | Path], is_gone: Callable[[Row], bool]) -> Cleared:
    cleared: list[str] = []
    kept: list[tuple[str, tuple[str, ...]]] = []
    for rounds in sorted({Path(folder).resolve() / ROUNDS for folder in folders}):
        if not rounds.is_dir():
            continue
        held = list(_holding(rounds, is_gone))
        if not held:
            continue
        try:
            lock = Lock(rounds / ".lock", AT_WORK)
        except UserError:
            kept += [(str(path), (AT_WORK,)) for path, _ in held]
            continue
        try:
            readers = _readers(rounds)
            for path, rest in held:
                if why := readers.get(path) or readers.get(formats.sha256(path)):
                    kept.append((str(path), tuple(sorted(why))))
                else:
                    _replace(path, rest)
                    cleared.append(str(path))
        finally:
            lock.release()
    return Cleared(tuple(cleared), tuple(kept))


def _holding(rounds: Path, is_gone: Callable[[Row], bool]) -> Iterator[tuple[Path, list[Row]]]:
    """Each file with rows that go, and its other rows. Files that name no exchange are searched for the prompts."""
    files = [path for path in sorted(rounds.rglob("*.jsonl")) if snapshot_rows(path.parent) is None]
    files += sorted(rounds.rglob(f".*{PARTIAL}"))
    found = {path: rows_of(path) for path in files}
    users: dict[str, set[object]] = defaultdict(set)  # of each prompt that goes
    for row in (row for rows in found.values() for row in rows if is_gone(row)):
        if (prompt := _prompt(row)) is not None:
            users[prompt].add(row.get("user"))

    def goes(row: Row) -> bool:
        asked = users.get(_prompt(row) or "", set()) if "exchange" not in row else set()
        return is_gone(row) or bool(asked and ("user" not in row or row["user"] in asked))

    for path, rows in found.items():
        rest = [row for row in rows if not goes(row)]
        if len(rest) < len(rows):
            yield path, rest


def _prompt(row: Row) -> str | None:
    return json.dumps(row["prompt"], sort_keys=True) if row.get("prompt") is not None else None


def _readers(rounds: Path) -> dict[Path | str, set[str]]:
    """By path and by hash of a file: trainings that have read it or wrote it, and unfinished work that reads it.

    The hash finds the readers in a folder that was moved.
    """
    found: dict[Path | str, set[str]] = defaultdict(set)
    for artifact in found_under([rounds]):
        if not _needs(artifact):
            continue
        for source in artifact.manifest.data.values():
            found[Path(source.get("path", "")).resolve()].add(str(artifact.path))
            found[str(source.get("sha256"))].add(str(artifact.path))
        if artifact.is_run:
            for path in artifact.path.rglob("*.jsonl"):
                found[path].add(str(artifact.path))
    for path in rounds.rglob(f".*{PARTIAL}.json"):  # files of rows in the making
        made = str(path.with_name(path.name.removeprefix(".").removesuffix(f"{PARTIAL}.json")))
        found[path.with_suffix("")].add(made)
        for source in Manifest.read(path).data.values():
            found[Path(source.get("path", "")).resolve()].add(made)
    return found


def _needs(artifact: Artifact) -> bool:
    """Whether an artifact is a training, or is not finished."""
    trained = artifact.is_run and (artifact.path / "model").is_dir()
    return trained or artifact.manifest.status != "finished"


def _replace(path: Path, rows: list[Row]) -> None:
    """Write the rows that stay. The manifest of a file of rows names its new hash."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    beside = manifest_path(path)
    if beside.name != NAME and beside.exists():
        manifest = Manifest.read(beside)
        manifest.record("finished", sha256=formats.sha256(path))
        manifest.write(beside)
