"""Metrics as (sum, count), divided once after all micro-batches and ranks, and the display of progress."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Mapping

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from heedful.training.parallel import Ranks

Pair = tuple[Tensor | float, Tensor | float]


class Means:
    """Collects (sum, count) pairs by name. `reduce` gives the means over all of them, the same on every rank."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, Pair]) -> None:
        for name, (total, count) in metrics.items():
            pair = torch.stack([torch.as_tensor(x).detach().double().cpu() for x in (total, count)])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def largest(self, name: str, value: Tensor) -> None:
        value = value.detach().double().cpu()
        self._largest[name] = torch.maximum(self._largest[name], value) if name in self._largest else value

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """The means. A metric that a rank has not seen counts as (0, 0) there. One without any count is left out."""
        parts = ranks.gather((self._sums, self._largest))
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        means: dict[str, float] = {}
        for name in names:
            total, count = torch.stack([sums[name] for sums, _ in parts if name in sums]).sum(0).tolist()
            if count:
                means[name] = total / count
        for name in dict.fromkeys(name for _, largest in parts for name in largest):
            means[name] = max(float(largest[name]) for _, largest in parts if name in largest)
        return means


class Reporter:
    """Progress on standard error: a bar on a terminal, else a plain line every `every` seconds.

    Processes that share a terminal print lines. If the reader of a pipe is gone, the work goes on.
    """

    def __init__(self, name: str, total: int, *, visible: bool = True, every: float = 10.0) -> None:
        self.name, self.total, self.visible, self.every = name, total, visible, every
        self._last = 0.0
        self._bar: Progress | None = None
        if visible and sys.stderr.isatty() and multiprocessing.parent_process() is None:
            columns = (
                TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
            )  # fmt: skip
            self._bar = Progress(*columns, console=Console(stderr=True), transient=False)
            self._bar.start()
            self._task = self._bar.add_task(name, total=total, facts="")

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        facts = "  ".join(f"{key} {value:.3g}" for key, value in metrics.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, facts=facts)
        elif self.visible and (done == self.total or time.monotonic() - self._last >= self.every):
            self._last = time.monotonic()
            _tell(f"{self.name} {done}/{self.total}  {facts}")

    def say(self, message: str) -> None:
        if not self.visible:
            return
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.console.print(message, markup=False, highlight=False)
        else:
            _tell(message)

    def close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
            self._bar = None


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
