"""A run directory: one to read, and one to write.

RUN/config.json       the resolved config
RUN/manifest.json     what it was made from and what came of it (`runs.manifest`)
RUN/metrics.jsonl     one line per step, appended
RUN/samples.jsonl     texts to read while it trains
RUN/checkpoints/      step-00000100/ ...: what --resume needs
RUN/model/            the result, loads with plain transformers
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful import files
from heedful.config import Config, UserError
from heedful.runs.manifest import NAME, Manifest, Source
from heedful.runs.resumable import Resumable

METRICS, SAMPLES, LOCK = "metrics.jsonl", "samples.jsonl", ".lock"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run directory to read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run in any state. Raises UserError if there is none."""
        path = Path(path)
        if not (path / NAME).is_file():
            raise UserError(f"{path}: not a run directory (no {NAME})")
        return cls(path, Manifest.read(path / NAME))

    @property
    def finished(self) -> bool:
        """Whether all is done and the model is there. One that was deleted is made again by --resume."""
        return self.manifest.status == "finished" and (self.path / "model").is_dir()


def metrics(path: str | Path) -> Rows:
    """All rows of a run's metrics.jsonl, one a step."""
    return files.rows_of(Path(path) / METRICS)


class RunWriter(Resumable):
    """A run directory to write. Only the main rank holds one."""

    @classmethod
    def start(
        cls, out: str | Path, stage: str, config: Config, *, parents: dict[str, Source], data: dict[str, Source],
        resume: bool = False,
    ) -> RunWriter:  # fmt: skip
        """Make a new run directory, or go on with one if `resume` is set.

        Raises UserError if the place is taken, holds other work, or is being written.
        """
        path = Path(out)
        run = cls(path, path / NAME, path / LOCK)
        found = Manifest.read(path / NAME) if (path / NAME).exists() else None
        if found is None and path.exists() and not (path.is_dir() and all(_is_ours(entry) for entry in path.iterdir())):
            raise UserError(f"{path}: already exists and is not a run. Choose another --out")
        run._claim(Manifest.begin(stage, config, parents, data), found, resume)
        files.write_json(path / "config.json", run.manifest.config)
        (path / "checkpoints").mkdir(exist_ok=True)
        return run

    @property
    def finished(self) -> bool:
        return Run(self.path, self.manifest).finished

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line to metrics.jsonl (means over all micro-batches and ranks)."""
        row = {"step": step, **{key: short(value) for key, value in metrics.items()}}
        files.append_rows(self.path / METRICS, [row])

    def sample(self, step: int, rows: Rows) -> None:
        """Append texts to samples.jsonl."""
        files.append_rows(self.path / SAMPLES, [{"step": step, **row} for row in rows])

    def forget_after(self, step: int) -> None:
        """Drop logged lines of later steps, because a resumed run writes them again."""
        for name in (METRICS, SAMPLES):
            file = self.path / name
            if file.exists():
                kept = [line for line in files.lines_of(file) if _step_of(line) <= step]
                files.write_text(file, "".join(line + "\n" for line in kept))

    def _prepare(self) -> None:
        files.remove_temporary(self.path)
        files.remove_temporary(self.path / "checkpoints")

    def _begun(self) -> bool:
        return (self.path / METRICS).exists() or any((self.path / "checkpoints").glob("*"))

    def _delete(self) -> None:
        files.remove_temporary(self.path)
        for name in (METRICS, SAMPLES, "config.json", NAME):
            (self.path / name).unlink(missing_ok=True)
        for name in ("checkpoints", "model"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def _is_ours(entry: Path) -> bool:
    """Whether a run that was killed before its manifest was written may have left this behind."""
    return entry.name == LOCK or (entry.name.startswith(f".{NAME}.") and entry.name.endswith(".tmp"))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line that a crash cut short


def short(value: float) -> float:
    """A figure as it is logged."""
    return float(f"{value:.7g}")
