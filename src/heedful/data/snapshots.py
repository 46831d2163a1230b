"""Snapshots: frozen records, the only contract between people's work and training.

    SNAPSHOT/records.jsonl   the rows
    SNAPSHOT/manifest.json   their kind, number and hash, and the filters that chose them

A training command takes the directory instead of a data file. `formats.read` checks the hash first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful import files
from heedful.config import UserError, refused
from heedful.data import formats
from heedful.data.reading import sources
from heedful.data.records import Record


@dataclass(frozen=True)
class Snapshot:
    """A frozen set of records on disk. Equal contents have equal hashes."""

    path: Path
    records: str  # the kind of record, as in "comparison"
    rows: int
    sha256: str
    filters: dict[str, Any]


def freeze(records: Sequence[Record], directory: str | Path, filters: dict[str, Any] | None = None) -> Snapshot:
    """Write records of one kind as a snapshot, whole or not at all.

    Freezing the same records again changes nothing. Raises UserError if the directory holds anything else.
    """
    directory = Path(directory)
    kinds = sorted({type(record).__name__.lower() for record in records})
    if not kinds:
        raise UserError(
            f"{directory}: nothing to freeze, because no row passes the filters. Widen them, or label first."
        )
    if len(kinds) > 1:
        what = " and ".join(kinds)
        raise UserError(f"{directory}: a snapshot holds one kind of record, not {what} rows. Check the filters.")
    try:
        with files.scratch(directory) as scratch:
            scratch.mkdir(parents=True)  # inside the try, so that an error names the directory
            rows = scratch / formats.SNAPSHOT_ROWS
            formats.write(rows, records)
            manifest = {
                "records": kinds[0],
                "rows": len(records),
                "sha256": formats.sha256(rows),
                "filters": filters or {},
            }
            formats.write_manifest(scratch, manifest)
            if directory.is_dir() and any(directory.iterdir()):
                if formats.read_manifest(directory) != formats.read_manifest(scratch):
                    raise UserError(
                        f"{directory}: holds another snapshot, and snapshots never change. Choose a new directory."
                    )
            else:
                if directory.is_dir():
                    directory.rmdir()
                scratch.rename(directory)  # fails if another process has frozen something in the meantime
    except OSError as error:
        raise UserError(refused(error, directory)) from None
    return open_snapshot(directory)


def is_snapshot(path: str | Path) -> bool:
    """Whether a directory is a snapshot."""
    path = Path(path)
    return path.is_dir() and sources.snapshot_rows(path) is not None


def open_snapshot(path: str | Path) -> Snapshot:
    """Open a snapshot. Raises UserError if its rows have changed, or if there is no snapshot."""
    path = Path(path)
    if not is_snapshot(path):
        raise UserError(f"{path}: not a snapshot. Give the directory of one.")
    manifest = formats.read_manifest(path)
    return Snapshot(path, manifest["records"], manifest["rows"], manifest["sha256"], manifest["filters"])


def holds(path: str | Path, sha256: str) -> bool:
    """Whether a directory is the snapshot with this hash of rows, as its manifest says."""
    path = Path(path)
    return (path / formats.MANIFEST).is_file() and bool(formats.read_manifest(path).get("sha256") == sha256)
