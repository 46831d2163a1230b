"""Where a run came from: its parents and their data, where their folders are on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heedful.report.page import Grid
from heedful.runs.listing import origin
from heedful.runs.manifest import Manifest, manifest_path

HEADING = ["what", "from", "stage", "run", "rows"]


def of_run(name: str, path: Path) -> Grid:
    """A row for the run, and below it one for each model and file that it was made from, and so on."""
    note = "Each line was made from the lines below it that are further to the right."
    return Grid(name, HEADING, list(_rows(name, path, 0, set())), note)


def _rows(what: str, path: Path, depth: int, seen: set[str]) -> Iterator[list[str]]:
    manifest = Manifest.read_or_none(manifest_path(path))
    if manifest is None:
        return
    indent = "· " * depth
    yield [indent + what, str(path), manifest.stage, manifest.id, ""]
    if manifest.id in seen:
        return
    seen.add(manifest.id)
    for role, source in manifest.data.items():
        rows = source.get("rows")
        yield [f"· {indent}{role}", origin(source), "data", "", f"{rows:,}" if isinstance(rows, int) else ""]
    for role, parent in manifest.parents.items():
        ref = Path(str(parent.get("ref")))
        below = list(_rows(role, ref, depth + 1, seen)) if manifest_path(ref).is_file() else []
        yield from below or [[f"· {indent}{role}", origin(parent), "model", str(parent.get("run") or ""), ""]]
