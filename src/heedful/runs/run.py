"""A run directory: resolved config, manifest, metrics, samples, checkpoints, model.

RUN/config.json       the resolved config
RUN/manifest.json     id, stage, status, parents, data hashes, revision, versions, seed, results
RUN/metrics.jsonl     one line a step, appended
RUN/samples.jsonl     texts to read while it trains
RUN/checkpoints/      step-00000100/ ...: what --resume needs
RUN/model/            the result: loads with plain transformers
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from heedful import files
from heedful.config import Config, UserError
from heedful.files import Lock, lines_of, write_json
from heedful.runs.manifest import changed, new_manifest, read_manifest, timestamp


class Run:
    """One run directory, written by one process. Use `Run.start`; the main rank alone holds one."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.fresh = False
        """Whether this process made it."""
        self._lock: Lock | None = None
        self._counted = time.monotonic()

    @classmethod
    def start(
        cls,
        out: str | Path,
        stage: str,
        config: Config,
        *,
        parents: dict[str, Any],
        data: dict[str, Any],
        resume: bool = False,
    ) -> Run:
        """Make a new run directory, or reopen one with `resume`.

        Raises UserError if the place is taken, holds another stage or another config, or is being written.
        """
        path = Path(out)
        resolved = json.loads(config.model_dump_json())
        if (path / "manifest.json").exists():
            run = cls._reopen(path, stage, resolved, parents, data, resume)
        else:
            if path.exists() and (not path.is_dir() or any(not _is_ours(entry) for entry in path.iterdir())):
                raise UserError(f"{path}: already exists and is not a run; choose another --out")
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, new_manifest(stage, resolved, parents, data))
            run.fresh = True
        busy = f"{path}: another process is writing this run; wait for it or choose another --out"
        run._lock = Lock(path / ".lock", busy)
        files.remove_temporary(path)
        files.remove_temporary(path / "checkpoints")
        if not run.finished:
            run.set_status("running")
        write_json(path / "config.json", resolved)
        (path / "checkpoints").mkdir(exist_ok=True)
        return run

    @classmethod
    def _reopen(
        cls,
        path: Path,
        stage: str,
        resolved: dict[str, Any],
        parents: dict[str, Any],
        data: dict[str, Any],
        resume: bool,
    ) -> Run:
        manifest = read_manifest(path / "manifest.json")
        if not resume:
            raise UserError(
                f"{path}: already holds a {manifest['stage']} run; go on with --resume or choose another --out"
            )
        if manifest["stage"] != stage:
            raise UserError(f"{path}: holds a {manifest['stage']} run, not {stage}; choose another --out")
        difference = changed(manifest, resolved, parents, data)
        if difference is not None:
            raise UserError(f"{path}: --resume with {difference}; undo that change")
        return cls(path, manifest)

    @property
    def finished(self) -> bool:
        """Not without model/: what was deleted is made again from the last checkpoint."""
        return bool(self.manifest["status"] == "finished") and (self.path / "model").is_dir()

    def set_status(self, status: str, **facts: Any) -> None:
        """`status`: running, finished, interrupted or failed; `facts` go into the manifest, and the seconds worked."""
        self.manifest.pop("reason", None)
        now = time.monotonic()
        worked = self.manifest.get("seconds", 0.0) + now - self._counted
        self._counted = now
        self.manifest.update(status=status, updated=timestamp(), seconds=round(worked, 3), **facts)
        write_json(self.path / "manifest.json", self.manifest)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line to metrics.jsonl (means over all micro-batches and ranks)."""
        row = {"step": step, **{key: short(value) for key, value in metrics.items()}}
        files.append_rows(self.path / "metrics.jsonl", [row])

    def sample(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Append texts to samples.jsonl."""
        files.append_rows(self.path / "samples.jsonl", [{"step": step, **row} for row in rows])

    def forget_after(self, step: int) -> None:
        """Drop logged lines of later steps: a resumed run writes them again."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            file = self.path / name
            if file.exists():
                kept = [line for line in lines_of(file) if _step_of(line) <= step]
                files.write_text(file, "".join(line + "\n" for line in kept))

    def discard_if_empty(self) -> bool:
        """Remove a run that this process made and in which no step was taken, so that the command can be given
        again.
        """
        if not self.fresh or (self.path / "metrics.jsonl").exists() or any((self.path / "checkpoints").iterdir()):
            return False
        self.close()  # Windows deletes no open file
        shutil.rmtree(self.path)
        return True

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def metrics(path: str | Path) -> list[dict[str, float]]:
    """All rows of a run's metrics.jsonl."""
    return files.rows_of(Path(path) / "metrics.jsonl")


def _is_ours(entry: Path) -> bool:
    """Whether a run that was killed before its manifest was written may have left this behind."""
    return entry.name == ".lock" or (entry.name.startswith(".manifest.json.") and entry.name.endswith(".tmp"))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash


def short(value: float) -> float:
    """A figure as it is logged."""
    return float(f"{value:.7g}")
