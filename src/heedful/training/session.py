"""What every training stage needs around its loop: ranks, run directory, resume, interruption, the end.

The loop itself stays in the stage:

    with session("sft", config, out, parents=..., data=..., resume=resume) as s:
        first = s.restore(parts)
        for step in s.steps(first, total):
            ...
            s.log(step, metrics, show=("loss",))
            s.checkpoint(step, parts)
        s.finish(write_model, results)
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from heedful import files
from heedful.config import Config, NonFinite, UserError
from heedful.configs.shared import Checkpointing, Compute
from heedful.runs.manifest import parent
from heedful.runs.run import Run, metrics, short
from heedful.training import checkpoint, memory
from heedful.training.checkpoint import Part
from heedful.training.metrics import Reporter
from heedful.training.parallel import Ranks, join_ranks


class Interrupted(Exception):
    """The run was asked to stop, has saved a checkpoint, and can go on with --resume."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[str, int]]:
        return type(self), (str(self), self.signal_number)


class Session:
    """One stage run on this rank. `run` is None on all ranks but the main one."""

    def __init__(self, stage: str, out: Path, ranks: Ranks, run: Run | None, checkpointing: Checkpointing) -> None:
        self.stage, self.out, self.ranks, self.run, self.checkpointing = stage, out, ranks, run, checkpointing
        # of several runs of a stage, which one: runs/ppo_ptx beside runs/ppo
        self.name = out.name if out.name.startswith(stage) else stage
        self.config: Config | None = None
        self.best: dict[str, float] | None = None
        self.facts: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        """Logged metrics of every step so far, those before a resume included; the same on every rank."""
        self._signal = 0
        self._step = 0
        self._total = 0
        self._reporter: Reporter | None = None
        self._shown: dict[str, float] = {}
        self._saved = 0

    @property
    def finished(self) -> bool:
        """True where `--resume` met a run that is already complete."""
        return self.ranks.broadcast(self.run.finished if self.run is not None else False)

    def restore(self, parts: Mapping[str, Part]) -> int:
        """Fill `parts` from the newest checkpoint, if any; returns the step to go on with.

        Says what memory the run will need, and raises UserError where there is less.
        """
        if self.config is not None:
            planned = memory.plan(
                [part for part in parts.values() if isinstance(part, nn.Module)], self.config, self.ranks
            )
            self.say(f"{self.name}: {planned}")
            planned.check(str(self.out))
        found = self.ranks.broadcast(checkpoint.latest(self.out / "checkpoints") if self.run is not None else None)
        self._step = 0
        if found is not None:
            self.facts = checkpoint.load(found, parts)
            self._step, self.best = self.facts["step"], self.facts.get("best")
        self._saved = self._step
        if self.run is not None:
            self.run.forget_after(self._step - 1)
        self.history = self.ranks.broadcast(metrics(self.out) if self.run is not None else [])
        return self._step

    def steps(self, first: int, total: int) -> Iterator[int]:
        """Steps `first` to `total` - 1, with progress; each is reproducible by itself: torch's seed is the run's and
        the step's.
        """
        self._total = total
        self._reporter = Reporter(self.name, total, visible=self.ranks.main)
        for step in range(first, total):
            self._step = step
            yield step
            self._reporter.step(step + 1, self._shown)
        self._reporter.close()

    def seed(self, seed: int, step: int) -> None:
        """Everything torch draws in this step (dropout) follows from the run's seed, the step and the rank."""
        torch.manual_seed((seed * 1_000_003 + step) * 1_009 + self.ranks.rank)

    def log(self, step: int, metrics: dict[str, float], show: tuple[str, ...] = ()) -> None:
        self._shown.update({key: metrics[key] for key in show if key in metrics})
        self.history.append({key: short(value) for key, value in metrics.items()})  # what a resumed run reads back
        if self.run is not None:
            self.run.log(step, metrics)

    def sample(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Texts to read, into samples.jsonl."""
        if self.run is not None:
            self.run.sample(step, rows)

    def due(self, step: int) -> bool:
        """Whether 0-based `step` ends with a checkpoint."""
        return (step + 1) % self.checkpointing.interval(self._total) == 0 or step + 1 == self._total

    def say(self, message: str) -> None:
        if self._reporter is not None:
            self._reporter.say(message)
        elif self.ranks.main:
            Reporter(self.name, 0).say(message)

    def improved(self, step: int, value: float) -> bool:
        """Remember the lowest `value`; `step` counts finished steps."""
        if self.best is None or value < self.best["value"]:
            self.best = {"step": step, "value": value}
            return True
        return False

    def checkpoint(self, step: int, parts: Mapping[str, Part], *, always: bool = False, **facts: Any) -> None:
        """After 0-based `step`: save if it is due; if a signal came, save and stop the run.

        Raises NonFinite for a weight that an update has broken, before anything is saved.
        """
        stopping = self._asked_to_stop()
        if always or stopping or self.due(step):
            checkpoint.check_finite(parts)
            if self.run is not None:
                directory = self.out / "checkpoints"
                checkpoint.save(directory, step + 1, parts, {"best": self.best, **facts})
                checkpoint.prune(directory, self.checkpointing.keep, int(self.best["step"]) if self.best else None)
                self.run.set_status("running")  # the time worked so far
            self._saved = step + 1
            self.ranks.wait()
        if stopping:
            if self.run is not None:
                self.run.set_status("interrupted")
            raise Interrupted(
                f"{self.out}: interrupted at step {step + 1} of {self._total}; go on with --resume", stopping
            )

    def load_best(self, parts: Mapping[str, Part]) -> None:
        """Put the best checkpoint's weights into `parts`."""
        assert self.best is not None
        checkpoint.load(self.out / "checkpoints" / f"step-{int(self.best['step']):08d}", parts)

    def finish(self, write_model: Callable[[Path], None], results: dict[str, Any]) -> None:
        """`write_model(directory)` fills a temporary directory that becomes model/; then the run is finished."""
        if self.run is not None:
            with files.replacing(self.out / "model") as temporary:
                write_model(temporary)
            self.run.set_status("finished", results=results)
        self.ranks.wait()

    def _asked_to_stop(self) -> int:
        """The signal that any rank has got, the same number on all; 0 = none."""
        signals = torch.zeros(self.ranks.size, dtype=torch.long, device=self.ranks.device)
        signals[self.ranks.rank] = self._signal
        return int(self.ranks.sum(signals).max())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        self.say(f"{self.name}: stopping after this step (again to stop at once)")


@contextlib.contextmanager
def session(
    stage: str,
    config: Config,
    out: str | Path,
    *,
    models: Mapping[str, str | None],
    data: Mapping[str, Any],
    compute: Compute,
    checkpointing: Checkpointing,
    resume: bool = False,
) -> Iterator[Session]:
    """Open the run on the main rank, watch for SIGINT and SIGTERM, turn a NaN into one clear line.

    `models`: references by role (None is left out); `data`: fingerprints by role.
    """
    with join_ranks(compute) as ranks, _readable_errors(out):
        run = None
        if ranks.main:
            parents = {role: parent(ref) for role, ref in models.items() if ref is not None}
            run = Run.start(out, stage, config, parents=parents, data=dict(data), resume=resume)
        ranks.wait()
        current = Session(stage, Path(out), ranks, run, checkpointing)
        current.config = config
        try:
            with _signals(current):
                yield current
        except NonFinite as error:
            kept = (
                f"the checkpoint of step {current._saved} is kept" if current._saved else "there is no checkpoint yet"
            )
            reason = f"{error} is not finite at step {current._step + 1}; {kept}"
            if run is not None:
                run.set_status("failed", reason=reason)
            raise UserError(
                f"{out}: {reason}. Begin anew with another --out and a lower learning rate, "
                "or look at the data of that step"
            ) from None
        except UserError as error:
            _stopped(run, "failed", reason=str(error))
            raise
        except (KeyboardInterrupt, Interrupted):
            _stopped(run, "interrupted")
            raise
        except BaseException as error:
            said = " ".join(str(error).split())
            _stopped(run, "failed", reason=f"{type(error).__name__}: {said}" if said else type(error).__name__)
            raise
        finally:
            if current._reporter is not None:
                current._reporter.close()
            if run is not None:
                run.close()


def _stopped(run: Run | None, status: str, **facts: Any) -> None:
    """Leave word of how a run ended: one without a step goes away, and a finished one stays so."""
    if run is not None and not run.discard_if_empty() and not run.finished:
        with contextlib.suppress(OSError):  # as on a full disk; what stopped the run is what must be told
            run.set_status(status, **facts)


@contextlib.contextmanager
def _readable_errors(out: str | Path) -> Iterator[None]:
    """A full disk or a place that may not be written, as one line."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise UserError(
            f"{out}: {error.strerror or error}{where}; mend that, then go on with --resume from the last checkpoint"
        ) from None


@contextlib.contextmanager
def _signals(current: Session) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, current._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
