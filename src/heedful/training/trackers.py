"""Metrics for TensorBoard, trackio and Weights & Biases, next to the run's own metrics.jsonl."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from heedful.config import UserError
from heedful.runs.manifest import Manifest

PROJECT = "heedful"


class Tracker(Protocol):
    """What receives the metrics of each step, on the main rank."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Writes RUN/tensorboard. A resumed run replaces what it had written after its checkpoint."""

    def __init__(self, run: Path, manifest: Manifest, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=first)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """Logs to trackio's folder of this machine. The project is TRACKIO_PROJECT, or "heedful"."""

    def __init__(self, run: Path, manifest: Manifest, first: int) -> None:
        self._trackio: Any = import_module("trackio")
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        name = f"{run.name}-{manifest.id}"
        self._trackio.init(project=project, name=name, config=manifest.config, resume="allow", embed=False)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        self._trackio.finish()


class WandB:
    """Logs to Weights & Biases. Its own variables apply: WANDB_PROJECT, WANDB_MODE=offline, WANDB_API_KEY."""

    def __init__(self, run: Path, manifest: Manifest, first: int) -> None:
        self._run: Any = import_module("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run.name, id=manifest.id, resume="allow",
            config=manifest.config, job_type=manifest.stage, dir=str(run),
        )  # fmt: skip

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, Manifest, int], Tracker]] = {
    "tensorboard": TensorBoard, "trackio": Trackio, "wandb": WandB,
}  # fmt: skip


class Trackers:
    """All trackers of a run. One that fails is named once and left out from then on. The training goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: dict[str, Tracker] = {}
        self._waiting: dict[str, Callable[[], Tracker]] = {}

    def start(self, names: Sequence[str], run: Path, manifest: Manifest, first: int) -> None:
        """Choose the trackers. They open with the first metrics, so that a run that never begins leaves nothing.

        `first` is the first step that will be logged. Raises UserError if one is not installed.
        """
        for name in names:
            if find_spec(name) is None:
                raise UserError(
                    f"trackers: {name} is not installed. Install it with pip install {name}, or leave it out"
                )
            self._waiting[name] = partial(TRACKERS[name], run, manifest, first)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, make in self._waiting.items():
            with self._watched(name):
                self._open[name] = make()
        self._waiting.clear()
        for name, tracker in list(self._open.items()):
            with self._watched(name):
                tracker.log(step, metrics)

    def close(self) -> None:
        for name, tracker in list(self._open.items()):
            with self._watched(name):
                tracker.close()
        self._open.clear()

    def _watched(self, name: str) -> _Watched:
        return _Watched(partial(self._failed, name))

    def _failed(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        self._say(f"trackers: {name} failed ({reason}). The run goes on without it")


class _Watched:
    """A context for a tracker's code: keeps what it prints off standard output, and calls `failed` if it raises.

    Trackers are other people's code. They may raise anything: no network, no account, a full disk, a broken install.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed, self._quiet = failed, contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> None:
        self._quiet.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        self._quiet.__exit__(kind, error, trace)
        if isinstance(error, Exception):
            self._failed(error)
            return True
        return False
