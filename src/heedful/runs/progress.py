"""Progress of long work, on standard error."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


class Reporter:
    """Progress on standard error: a bar on a terminal, else a plain line every `every` seconds.

    Processes that share a terminal print lines, and so does an installation without rich. If the reader of a pipe is
    gone, the work goes on.
    """

    def __init__(self, name: str, total: int, *, visible: bool = True, every: float = 10.0) -> None:
        self.name, self.total, self.visible, self.every = name, total, visible, every
        self._last = 0.0
        self._bar: Any = None
        shown = visible and sys.stderr.isatty() and multiprocessing.parent_process() is None
        if shown and find_spec("rich") is not None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
