"""A run directory: one to read, and one to write.

RUN/config.json       the resolved config
RUN/manifest.json     what it was made from and what came of it (`runs.manifest`)
RUN/metrics.jsonl     one line per step, appended
RUN/samples.jsonl     texts to read while it trains
RUN/watched.jsonl     the answers that watched rewards have scored, if there are any
RUN/checkpoints/      step-00000100/ ...: what --resume needs
RUN/model/            the result, loads with plain transformers
RUN/try.json          prompts that suit the model, if somebody has written some down
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from heedful import files
from heedful.config import Config, UserError
from heedful.files import Row
from heedful.runs.manifest import NAME, Manifest, Source
from heedful.runs.resumable import Resumable

METRICS, SAMPLES, TRY, LOCK = "metrics.jsonl", "samples.jsonl", "try.json", ".lock"
WATCHED = "watched.jsonl"


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
            raise UserError(f"{path}: not a run directory (no {NAME}). Give the folder that --out of a stage names")
        return cls(path, Manifest.read(path / NAME))

    @property
    def finished(self) -> bool:
        """Whether all is done and the model is there. One that was deleted is made again by --resume."""
        return self.manifest.status == "finished" and (self.path / "model").is_dir()


def metrics(path: str | Path) -> list[Row]:
    """All rows of a run's metrics.jsonl, one a step."""
    return files.rows_of(Path(path) / METRICS)


def prompts_to_try(path: str | Path, most: int = 3, longest: int = 160) -> list[str]:
    """Up to `most` short prompts that suit a run's model: those of try.json, else of the texts logged in training."""
    path = Path(path)
    if (path / TRY).is_file():
        named = files.read_json(path / TRY)
    else:
        named = [row.get("prompt") for row in files.rows_of(path / SAMPLES)]
    fitting = [one for one in named if isinstance(one, str) and one.strip() and len(one) <= longest and "\n" not in one]
    return list(dict.fromkeys(fitting))[:most]


class RunWriter(Resumable):
    """A run directory to write. Only the main rank holds one."""

    @classmethod
    def start(
        cls, out: str | Path, stage: str, config: Config, *, parents: dict[str, Source], data: dict[str, Source],
        functions: dict[str, Source] | None = None, resume: bool = False,
    ) -> RunWriter:  # fmt: skip
        """Make a new run directory, or go on with one if `resume` is set.

        Raises UserError if the place is taken, holds other work, or is being written.
        """
        path = Path(out)
        run = cls(path, path / NAME, path / LOCK)
        run._claim(Manifest.begin(stage, config, parents, data, functions), run._found, resume)
        run._write_config()
        (path / "checkpoints").mkdir(exist_ok=True)
        return run

    @property
    def finished(self) -> bool:
        return Run(self.path, self.manifest).finished and not self._changes.longer

    def go_on(self, step: int) -> str | None:
        told = super().go_on(step)
        self._write_config()
        self.set_status("running")
        return told

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line to metrics.jsonl (means over all micro-batches and ranks)."""
        row = {"step": step, **{key: short(value) for key, value in metrics.items()}}
        files.append_rows(self.path / METRICS, [row])

    def sample(self, step: int, rows: list[Row]) -> None:
        """Append texts to samples.jsonl."""
        files.append_rows(self.path / SAMPLES, [{"step": step, **row} for row in rows])

    def watched(self, step: int, rows: list[Row]) -> None:
        """Append the answers of a measurement to watched.jsonl."""
        files.append_rows(self.path / WATCHED, [{"step": step, **row} for row in rows])

    def sync(self) -> None:
        """Flush the logged lines to the disk."""
        for name in (METRICS, SAMPLES, WATCHED):
            if (self.path / name).exists():
                files.flush(self.path / name)

    def digest(self, step: int) -> str:
        """The hash of the logged metrics of the steps before `step`."""
        lines = files.lines_of(self.path / METRICS) if (self.path / METRICS).exists() else []
        kept = "".join(f"{line}\n" for line in lines if _step_of(line) < step)
        return hashlib.sha256(kept.encode()).hexdigest()

    def forget_after(self, step: int) -> None:
        """Drop logged lines of later steps, because a resumed run writes them again."""
        for name in (METRICS, SAMPLES, WATCHED):
            file = self.path / name
            if file.exists():
                kept = [line for line in files.lines_of(file) if _step_of(line) <= step]
                files.write_text(file, "".join(line + "\n" for line in kept))

    def _found(self) -> Manifest | None:
        """The manifest of the run that is here. Raises UserError if something else is."""
        if (self.path / NAME).exists():
            return Manifest.read(self.path / NAME)
        if self.path.exists() and not (self.path.is_dir() and all(_is_ours(entry) for entry in self.path.iterdir())):
            raise UserError(f"{self.path}: already exists and is not a run. Choose another --out")
        return None

    def _write_config(self) -> None:
        files.write_json(self.path / "config.json", self.manifest.config)

    def _prepare(self) -> None:
        files.remove_temporary(self.path)
        files.remove_temporary(self.path / "checkpoints")

    def _begun(self) -> bool:
        return (self.path / METRICS).exists() or any((self.path / "checkpoints").glob("*"))

    def _delete(self) -> None:
        files.remove_temporary(self.path)
        for name in (METRICS, SAMPLES, WATCHED, "config.json", NAME):
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
