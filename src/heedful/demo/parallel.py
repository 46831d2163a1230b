"""Run steps that do not need each other in parallel, one core each. Small models gain little from a second thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch

T = TypeVar("T")
GRACE = 30  # seconds that a worker gets to save its work after its parent ended
PRELOADED = ["heedful.demo.loop"]  # imports that take seconds


def can_fork() -> bool:
    """Whether workers can be forked from a server process. False on Windows, where calls run one after the other."""
    return "forkserver" in multiprocessing.get_all_start_methods()


def get_ready() -> None:
    """Start the server process that workers are forked from. It imports what they need, so that they start at once.

    It ignores Ctrl-C, which would end its imports with a traceback. It ends with this process.
    """
    if can_fork():
        from multiprocessing import forkserver

        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the new process inherits it
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run each call in its own process, as long as there are threads, and return the results in order.

    Calls and results are pickled. An error is raised when all calls that had started have ended. What they wrote stays.
    """
    workers = min(torch.get_num_threads(), len(calls))
    if workers < 2 or not can_fork():
        return [call() for call in calls]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    each = torch.get_num_threads() // workers
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(each,)) as pool:
        started = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in started]
        finally:
            for future in started:
                future.cancel()


def _start(threads: int) -> None:
    """Set up a worker: its share of the threads, no traceback at Ctrl-C, and an end when its parent ends."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a training run saves and stops
    time.sleep(GRACE)
    os._exit(1)
