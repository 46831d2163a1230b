"""One process of a launch on a Ray cluster, seen from the Ray worker that starts it.

The stage runs in a process of its own, as torchrun would start it. Ray runs a training function in a thread, where no
signal arrives, and a stage saves its checkpoint on a signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from heedful.launch import processes
from heedful.launch.processes import Child, ProcessPlace

PAUSE = 0.2
"""Seconds between two looks at the board."""
NOT_STARTED = 2
_DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Order:
    """What every worker does."""

    command: Sequence[str]
    """What stands behind Python's path."""
    folder: str
    """Where the launch was started."""
    logs: str
    env: Mapping[str, str] = field(default_factory=dict)


class End(NamedTuple):
    """How a process has ended. `line`: the last one of its log."""

    rank: int
    code: int
    machine: str = ""
    line: str = ""


class Board:
    """What launch and workers tell each other. One object for a launch."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []
        self._signals: list[int] = []
        self._started: set[int] = set()
        self._ends: list[End] = []

    def start(self, rank: int) -> None:
        """A worker begins."""
        self._started.add(rank)

    def say(self, stream: str, text: str) -> None:
        """Add output for the terminal. `stream`: stdout or stderr."""
        self._said.append((stream, text))

    def signal(self, number: int) -> None:
        """Send a signal to all processes."""
        self._signals.append(number)

    def end(self, rank: int, code: int, machine: str = "", line: str = "") -> None:
        """A process has ended. `line`: the last one of its log."""
        self._ends.append(End(rank, code, machine, line))

    def state(self, seen: int) -> tuple[list[int], bool]:
        """(signals from number `seen` on, whether a process has failed)."""
        return self._signals[seen:], any(end.code for end in self._ends)

    def take(self) -> tuple[list[tuple[str, str]], int, list[End]]:
        """(new output, number of processes that began, ends so far)."""
        said, self._said = self._said, []
        return said, len(self._started), list(self._ends)


class _Writer:
    """A stream whose text goes to the board."""

    def __init__(self, call: Callable[..., Any], name: str) -> None:
        self._call, self._name = call, name

    def write(self, text: str) -> None:
        self._call("say", self._name, text)

    def flush(self) -> None:
        """Nothing waits here."""


def work(order: Order, place: ProcessPlace, call: Callable[..., Any]) -> int:
    """Run the process of one rank until it ends: its exit code, which is on the board, too.

    `call(name, ...)` calls a function of the board.
    """
    child = Child(
        f"rank {place.rank}", [sys.executable, *order.command], Path(order.logs) / f"rank-{place.rank}.log",
        {**order.env, **place.environment()}, shown=place.rank == 0, cwd=order.folder, prepare=_prepare(),
        targets=(_Writer(call, "stdout"), _Writer(call, "stderr")),
    )  # fmt: skip
    machine = socket.gethostname()
    call("start", place.rank)
    try:
        Path(order.folder).stat()  # before logs are made there
        child.log.parent.mkdir(parents=True, exist_ok=True)
        child.start()
    except OSError as error:
        what = f"{error.filename}: {error.strerror}"
        call("say", "stderr", f"launch: {child.name} on {machine}: {what}. {_SHARED}\n")
        call("end", place.rank, NOT_STARTED)
        return NOT_STARTED
    seen, deadline = 0, float("inf")
    while child.code is None:
        signals, failed = call("state", seen)
        seen += len(signals)
        for number in signals:
            child.send(number)
        if failed:
            deadline = min(deadline, time.monotonic() + processes.GRACE)
        if time.monotonic() > deadline:
            processes.kill(child)
        time.sleep(PAUSE)
    child.close()
    call("end", place.rank, child.code, machine, child.last_line())
    return child.code


_SHARED = "All machines of the cluster need the folder that you start in, at the same path"


def _prepare() -> Callable[[], None]:
    """What the new process does first: undo Ray's block of SIGINT, and get SIGTERM if its Ray worker dies."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if library is not None:
            library.prctl(_DEATH_OF_PARENT, signal.SIGTERM)

    return prepare


def in_ray(order: Order, board: Any) -> None:
    """The training function of Ray Train: find this worker's place, and work."""
    import ray
    import ray.train
    import torch.distributed as dist

    from heedful.launch import machine

    context: Any = ray.train.get_context()
    rank = context.get_world_rank()
    port = [machine.free_port() if rank == 0 else 0]
    if context.get_world_size() > 1:
        dist.broadcast_object_list(port, src=0)
    place = ProcessPlace(
        rank, context.get_local_rank(), context.get_world_size(), context.get_local_world_size(),
        os.environ["MASTER_ADDR"], port[0],
    )  # fmt: skip
    work(order, place, lambda name, *given: ray.get(getattr(board, name).remote(*given)))
