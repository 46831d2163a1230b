"""What surrounds the loop of every training stage: ranks, run directory, resume, interruption, the end.

The loop itself stays in the stage:

    with open_stage("sft", config, out, models=..., files=..., resume=resume) as s:
        for step in s.steps(s.restore(parts, shape), total):
            ...
            s.log(step, metrics, show=("loss",))
            s.checkpoint(step, parts)
        s.finish(write_model, results)
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from heedful import files
from heedful.config import NonFinite, UserError
from heedful.configs.shared import StageConfig
from heedful.data import formats
from heedful.fast import api as fast
from heedful.models import ids
from heedful.planning.check import amount
from heedful.planning.job import StepShape
from heedful.runs.manifest import Source, parent
from heedful.runs.progress import Reporter
from heedful.runs.resumable import Interrupted, recording_end
from heedful.runs.run import METRICS, RunWriter, metrics, short
from heedful.training import checkpoint, room
from heedful.training.checkpoint import SavedPart
from heedful.training.parallel import Ranks, join_ranks
from heedful.training.trackers import Trackers

FEW_UPDATES = 10
TWICE = 5.0
"""Seconds in which a second SIGTERM is the first one again: Slurm sends one to all, and torchrun hands its own on."""


class StageRun:
    """One run of a stage, on this rank. `run` is None on all ranks but the main one."""

    def __init__(self, stage: str, config: StageConfig, out: Path, ranks: Ranks, run: RunWriter | None) -> None:
        self.stage, self.config, self.out, self.ranks, self.run = stage, config, out, ranks, run
        # in messages: tells runs/ppo_ptx from runs/ppo
        self.name = out.name if out.name.startswith(stage) else stage
        self.at_end = contextlib.ExitStack()
        """Called when the run ends, by an error too."""
        self.best: dict[str, float] | None = None
        self.facts: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        """Logged metrics of every step so far, also of those before a resume. The same on every rank."""
        self._signal, self._asked = 0, 0.0
        self._step = 0
        self._total = 0
        self._reporter: Reporter | None = None
        self._shown: dict[str, float] = {}
        self._saved = 0
        self._trackers = Trackers(self.say)
        self._model_bytes = 0

    @property
    def finished(self) -> bool:
        """True if `--resume` met a run that is complete already."""
        return self.ranks.broadcast(self.run.finished if self.run is not None else False)

    def say_how_cut(self) -> None:
        """Record how models are cut into shards, and say so where that was asked for and cannot be."""
        wanted, shards = self.config.compute.shard, self.ranks.shards
        if shards is not None:
            self.note(shard=str(shards))
        elif wanted in ("full", "hybrid"):
            self.say(f"{self.name}: compute.shard {wanted} is none with one process. Start several with torchrun")
            self.note(shard="none")

    def try_saving(self, write_model: Callable[[Path | None], None]) -> None:
        """Write the untrained model once, and delete it. What would fail after the last step fails before the first.

        If it fails, all ranks raise UserError.
        """
        failure: UserError | None = None
        if self.run is not None:
            with files.scratch(self.out / "model") as temporary:
                try:
                    write_model(temporary)
                except UserError as error:
                    failure = error
                else:
                    self._model_bytes = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
        else:
            write_model(None)
        failure = self.ranks.broadcast(failure)
        if failure is not None:
            raise failure

    def restore(self, parts: Mapping[str, SavedPart], rows: StepShape | None) -> int:
        """Fill `parts` from the newest checkpoint, if any. Returns the step to go on with.

        `rows`: those of a step, if the parts are transformers models. Raises UserError if memory does not suffice.
        """
        if rows is not None:
            self._say_how({name: part for name, part in parts.items() if isinstance(part, nn.Module)}, rows)
        if self.run is not None:
            self._check_disk(parts)
        found = self.ranks.broadcast(checkpoint.latest(self.out / "checkpoints") if self.run is not None else None)
        self._step = 0
        if found is not None:
            self.facts = checkpoint.load(found, parts, self.ranks)
            self._step, self.best = self.facts["step"], self.facts.get("best")
        self._saved = self._step
        if self.run is not None:
            self._check_rest(self.run)
            self._prune()  # what a kill right after a save has left
            self.run.forget_after(self._step - 1)
            told = self.run.go_on(self._step)
            if told is not None:
                self.say(f"{self.name}: {told}")
            self._trackers.start(self.config.trackers, self.out, self.run.manifest, self._step)
        self.history = self.ranks.broadcast(metrics(self.out) if self.run is not None else [])
        return self._step

    def _prune(self) -> None:
        best = int(self.best["step"]) if self.best is not None else None
        checkpoint.prune(self.out / "checkpoints", self.config.checkpoint.keep, best)

    def _check_rest(self, run: RunWriter) -> None:
        """Raise UserError if something that goes with the newest checkpoint is gone: the figures, the best weights."""
        remedy = f"Restore a copy of it, or delete {self.out / 'checkpoints'} to begin from the start"
        if self.facts.get("metrics", run.digest(self._step)) != run.digest(self._step):
            raise UserError(
                f"{self.out / METRICS}: damaged (its lines before step {self._step} have changed). {remedy}"
            )
        best = checkpoint.at(self.out / "checkpoints", int(self.best["step"])) if self.best is not None else None
        if best is not None and not best.is_dir():
            raise UserError(f"{best}: missing, and it is the best checkpoint so far. {remedy}")

    def _say_how(self, models: Mapping[str, nn.Module], rows: StepShape) -> None:
        """Say and record how the models compute, and what memory that takes."""
        paths = {name: fast.path(model) for name, model in models.items()}
        for name, path in paths.items():
            if path.fast and not path.packed:
                self.say(f"{self.name}: {name} computes {path}")
        self.note(forward={name: str(path) for name, path in paths.items()}, ids=ids.described(models))
        room.check_loaded(self.stage, self.config, models, rows, self.ranks, self.out, self.say)

    def _check_disk(self, parts: Mapping[str, SavedPart]) -> None:
        """Raise UserError if the checkpoints and the model will not fit on the disk."""
        directory, keep = self.out / "checkpoints", self.config.checkpoint.keep
        there = sum(file.stat().st_size for file in directory.rglob("*.safetensors"))
        # one more while it is written
        wanted = max(0, (keep + 1) * checkpoint.size_of(parts) - there) + self._model_bytes
        free = shutil.disk_usage(self.out).free
        if wanted > free:
            raise UserError(
                f"{self.out}: the checkpoints and the model need {amount(wanted)} of the disk, "
                f"{amount(free)} are free. Lower checkpoint.keep, or choose another --out"
            )

    def steps(self, first: int, total: int) -> Iterator[int]:
        """Steps `first` to `total` - 1, with progress. Each is reproducible by itself, because it sets torch's seed."""
        if first > total:
            raise UserError(
                f"{self.out}: has a checkpoint of step {first}, but the run has {total}. Delete that checkpoint"
            )
        self._total = total
        self._reporter = Reporter(self.name, total, visible=self.ranks.main)
        for step in range(first, total):
            self._step = step
            self.seed(step)
            yield step
            self._reporter.step(step + 1, self._shown)
        self._reporter.close()

    def seed(self, step: int) -> None:
        """Set torch's seed. What it draws in this step (dropout) follows from the run's seed, the step and the rank."""
        torch.manual_seed((getattr(self.config, "seed", 0) * 1_000_003 + step) * 1_009 + self.ranks.rank)

    def log(self, step: int, metrics: dict[str, float], show: tuple[str, ...] = ()) -> None:
        """Append metrics to metrics.jsonl. Those in `show` appear next to the progress."""
        self._shown.update({key: metrics[key] for key in show if key in metrics})
        self.history.append({key: short(value) for key, value in metrics.items()})  # what a resumed run reads back
        if self.run is not None:
            self.run.log(step, metrics)
            self._trackers.log(step, metrics)

    def note(self, **facts: Any) -> None:
        """Record facts in the manifest."""
        if self.run is not None:
            self.run.set_status("running", **facts)

    def sample(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Append texts to samples.jsonl."""
        if self.run is not None:
            self.run.sample(step, rows)

    def watched(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Append answers that watched rewards have scored to watched.jsonl."""
        if self.run is not None:
            self.run.watched(step, rows)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after 0-based `step`."""
        return (step + 1) % self.config.checkpoint.interval(self._total) == 0 or step + 1 == self._total

    def say(self, message: str) -> None:
        """Show a message on standard error, once for all ranks."""
        if self._reporter is not None:
            self._reporter.say(message)
        elif self.ranks.main:
            Reporter(self.name, 0).say(message)

    def say_if_few(self, updates: int, remedy: str) -> None:
        """Say so if a whole run has fewer than `FEW_UPDATES` updates."""
        if updates < FEW_UPDATES:
            self.say(f"{self.name}: only {updates} update{'s' if updates > 1 else ''} in all. To train more, {remedy}")

    def improved(self, step: int, value: float) -> bool:
        """Whether `value` is the lowest so far, which is then remembered. `step` counts finished steps."""
        if self.best is None or value < self.best["value"]:
            self.best = {"step": step, "value": value}
            return True
        return False

    def checkpoint(self, step: int, parts: Mapping[str, SavedPart], *, always: bool = False, **facts: Any) -> None:
        """Save after 0-based `step` if a checkpoint is due. If a signal came, save and raise Interrupted.

        Raises NonFinite before anything is saved, if an update has broken a weight. `facts` come back at a resume.
        """
        stopping = self._asked_to_stop()
        if always or stopping or self.due(step):
            checkpoint.check_finite(parts, self.ranks)
            directory, state = self.out / "checkpoints", {"best": self.best, "metrics": None, **facts}
            if self.run is not None:
                self.run.sync()  # no checkpoint without the figures of its steps
                state["metrics"] = self.run.digest(step + 1)
            if self.run is not None or self.ranks.shards is not None:
                checkpoint.save(directory, step + 1, parts, state, self.ranks)
            if self.run is not None:
                self._prune()
                self.run.set_status("running")  # the time worked so far
            self._saved = step + 1
            self.ranks.wait()
        if stopping:
            if self.run is not None:
                self.run.set_status("interrupted")
            raise Interrupted(
                f"{self.out}: interrupted at step {step + 1} of {self._total}. Continue with --resume", stopping
            )

    def load_best(self, parts: Mapping[str, SavedPart]) -> None:
        """Load the weights of the best checkpoint into `parts`."""
        assert self.best is not None
        checkpoint.load(checkpoint.at(self.out / "checkpoints", int(self.best["step"])), parts, self.ranks)

    def finish(self, write_model: Callable[[Path | None], None], results: dict[str, Any]) -> None:
        """Finish the run. `write_model(directory)` fills a temporary directory, which then becomes model/.

        Ranks other than the main one call it with None.
        """
        if self.run is not None:
            with files.replacing(self.out / "model", sync=True) as temporary:
                write_model(temporary)
            self.run.set_status("finished", results=results)
        else:
            write_model(None)
        self.ranks.wait()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM while the stage works. Raise NonFinite as UserError that says what is kept."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        except NonFinite as error:
            kept = f"The checkpoint of step {self._saved} is kept" if self._saved else "There is no checkpoint yet"
            raise UserError(
                f"{self.out}: {error} is not finite at step {self._step + 1}. {kept}. Start again with another --out "
                "and a lower learning rate, or look at the data of that step"
            ) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._trackers.close()
            if self._reporter is not None:
                self._reporter.close()

    def _asked_to_stop(self) -> int:
        """The number of a signal that any rank has got, the same on all ranks. 0: none."""
        return max(self.ranks.gather(self._signal))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == self._signal:  # a second SIGTERM
            if time.monotonic() - self._asked > TWICE:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self._signal, self._asked = number, time.monotonic()
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        self.say(f"{self.name}: stopping after this step (send it again to stop at once)")


@contextlib.contextmanager
def open_stage(
    stage: str,
    config: StageConfig,
    out: str | Path,
    *,
    models: Mapping[str, str | None],
    files: Mapping[str, str | None],
    functions: dict[str, Source] | None = None,
    resume: bool,
) -> Iterator[StageRun]:
    """Open the run on the main rank, watch for SIGINT and SIGTERM, and say in one line what went wrong.

    `models` and `files`: references and paths by role. None is left out. `functions`: entries of the manifest by role.
    """
    ranks = join_ranks(config.compute)
    with ranks.ending():  # another machine may lack a file
        data = {role: formats.fingerprint(path) for role, path in files.items() if path}
    with _readable_errors(out), ranks.ending():
        run = None
        if ranks.main:
            parents = {role: parent(ref) for role, ref in models.items() if ref is not None}
            run = RunWriter.start(out, stage, config, parents=parents, data=data, functions=functions, resume=resume)
        ranks.wait()
        current = StageRun(stage, config, Path(out), ranks, run)
        with recording_end(run), current.watching(), ranks.explained(), current.at_end:
            current.say_how_cut()
            if not current.finished:
                fast.Extras(liger=config.compute.liger).check(ranks.device)
                room.check_config(stage, config, ranks, current.out, current.say)
            yield current


@contextlib.contextmanager
def _readable_errors(out: str | Path) -> Iterator[None]:
    """Turn a full disk, or a place that may not be written, into one line."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise UserError(f"{out}: {error.strerror or error}{where}. Correct that, then continue with --resume") from None
