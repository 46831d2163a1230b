"""Runs found in folders: a list of them, and a comparison of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.runs.manifest import NAME, Manifest, Source, content
from heedful.runs.run import metrics


@dataclass(frozen=True)
class Artifact:
    """A run, or a file of rows, and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def is_run(self) -> bool:
        """Whether it is a run of training and not a file of rows."""
        return self.path.is_dir()


def read_artifact(path: Path) -> Artifact | None:
    """What a manifest file describes. None if there is no such file, or it is no manifest of ours."""
    manifest = Manifest.read_or_none(path)
    if manifest is None:
        return None
    return Artifact(path.parent if path.name == NAME else path.with_name(path.name.removesuffix(f".{NAME}")), manifest)


def found_under(folders: Sequence[str | Path]) -> list[Artifact]:
    """Every run and every file of rows with a manifest, in the order of their paths."""
    paths = {path for folder in folders for path in Path(folder).rglob(f"*{NAME}")}
    return [artifact for path in sorted(paths) if (artifact := read_artifact(path)) is not None]


def named(runs: Sequence[str | Path]) -> dict[str, Path]:
    """Each run by the end of its path, with as many parts as tell it from the others."""
    paths = list(dict.fromkeys(Path(run).resolve() for run in runs))
    names = {}
    for path in paths:
        parts = 1
        while sum(path.parts[-parts:] == other.parts[-parts:] for other in paths) > 1:
            parts += 1
        names["/".join(path.parts[-parts:])] = path
    return names


def duration(seconds: float) -> str:
    """A time for people: "12 s", "3 min 5 s", "2 h 10 min"."""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def last_metrics(run: str | Path) -> dict[str, float]:
    """The last logged value of each metric, and `step`. Metrics that are logged rarely keep their latest value."""
    last: dict[str, float] = {}
    for row in metrics(run):
        last.update({key: value for key, value in row.items() if isinstance(value, int | float)})
    return last


def compared(runs: Mapping[str, Artifact]) -> dict[str, dict[str, dict[str, Any]]]:
    """What differs between runs: `settings`, `inputs` (data and parents) and `metrics`, each as key -> run -> value.

    Equal settings and inputs are left out. A metric that a run has not logged is missing there.
    """
    settings = _by_key({name: flat(one.manifest.config) for name, one in runs.items()})
    inputs = _by_key({name: one.manifest.parents | one.manifest.data for name, one in runs.items()})
    differing = {role: row for role, row in inputs.items() if _differs(list(map(content, row.values())), len(runs))}
    return {
        "settings": {key: row for key, row in settings.items() if _differs(list(row.values()), len(runs))},
        "inputs": {role: {name: origin(source) for name, source in row.items()} for role, row in differing.items()},
        "metrics": _by_key({name: last_metrics(one.path) for name, one in runs.items()}),
    }


def origin(source: Source) -> str:
    """Where an input came from, with the beginning of its hash."""
    digest = source.get("sha256") or source.get("weights_sha256")
    return f"{source.get('path') or source.get('ref')}" + (f" (sha256 {digest[:12]}…)" if digest else "")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with one key each, as in `optimiser.lr`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _by_key(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn run -> key -> value around."""
    keys = dict.fromkeys(key for each in values.values() for key in each)
    return {key: {name: each[key] for name, each in values.items() if key in each} for key in keys}


def _differs(values: list[Any], runs: int) -> bool:
    """Whether not all of `runs` runs have the same value."""
    return len(values) < runs or any(value != values[0] for value in values)
