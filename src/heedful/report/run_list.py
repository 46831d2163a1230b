"""The list of runs in a folder, and the comparison of several, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.configs import registry
from heedful.data.text import as_words, visible
from heedful.files import Lock
from heedful.plots.layout import number
from heedful.runs.listing import Artifact, compared, duration, found_under, last_metrics, named
from heedful.runs.manifest import NAME
from heedful.runs.run import LOCK, Run

LONGEST = 40  # characters of a cell
COMPARED = {"settings": "settings that differ", "inputs": "inputs that differ", "metrics": "last metrics"}


def describe(paths: Sequence[Path], *, as_json: bool = False) -> str:
    """Two or more runs are compared. Anything else is a list of the runs in these places.

    Raises UserError if a place does not exist, or holds no run.
    """
    if len(paths) > 1 and all((path / NAME).is_file() for path in paths):
        runs = {name: Artifact(path, Run.open(path).manifest) for name, path in named(paths).items()}
        found = compared(runs)
        return json.dumps(found, ensure_ascii=False) if as_json else _comparison(found, list(runs))
    rows = [_row(run) for path in paths for run in _runs_at(path)]
    if as_json:
        return json.dumps(rows, ensure_ascii=False)
    headings = ["run", "stage", "status", "started", "took", "steps", "last metrics"]
    return "\n".join(_columns([headings, *([_cell(value) for value in row.values()] for row in rows)]))


def _runs_at(path: Path) -> list[Artifact]:
    if not path.exists():
        raise UserError(f"{path}: no such run or folder. Name a folder that holds runs")
    if found := [one for one in found_under([path]) if one.is_run]:
        return found
    raise UserError(f"{path}: no run in it. Name a folder that holds runs")


def _row(run: Artifact) -> dict[str, Any]:
    manifest, last = run.manifest, last_metrics(run.path)
    return {
        "run": str(run.path),
        "stage": manifest.stage,
        "status": "killed" if manifest.status == "running" and not _is_locked(run.path / LOCK) else manifest.status,
        "started": (manifest.created or "")[:16].replace("T", " "),
        "took": duration(manifest.seconds),
        "steps": int(last["step"]) + 1 if "step" in last else 0,
        "metrics": {name: last[name] for name in registry.stage(manifest.stage).headline if name in last},
    }


def _is_locked(lock: Path) -> bool:
    """Whether a process holds the lock of a run. A killed one leaves the file behind, but not the lock."""
    if not lock.exists():
        return False
    try:
        Lock(lock, "").release()
    except (UserError, OSError):  # OSError: a folder that one may only read
        return True
    return False


def _comparison(found: Mapping[str, dict[str, dict[str, Any]]], runs: list[str]) -> str:
    lines: list[str] = []
    for part, heading in COMPARED.items():
        if part == "metrics" or found[part]:
            shown = as_words if part == "metrics" else str
            rows = [[shown(key), *(_cell(row.get(run, "–")) for run in runs)] for key, row in found[part].items()]
            lines += [*([""] if lines else []), *_columns([[heading, *runs], *rows])]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{as_words(name)} {number(each)}" for name, each in value.items())
    if isinstance(value, float):
        return number(value)
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return ["  ".join(row).rstrip() for row in padded]
