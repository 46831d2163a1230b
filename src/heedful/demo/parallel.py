"""Steps that do not need each other, on one core each: small models gain little from a second thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import BaseContext, ForkServerContext
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch

T = TypeVar("T")
GRACE = 30  # seconds that a process gets to save what it does when its parent is gone


PRELOADED = ["heedful.demo.loop"]  # what takes the seconds of a start


def get_ready() -> None:
    """Import what calls will need in a process of its own, from which workers are forked: they begin at once."""
    if isinstance(_context(), ForkServerContext):
        forkserver.ensure_running()


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of `calls`, in their order; each call in a process of its own as long as there are threads.

    Calls and results are pickled. The first error is raised when all that had begun have ended; what they wrote stays.
    """
    workers = min(torch.get_num_threads(), len(calls))
    if workers < 2:
        return [call() for call in calls]
    each = torch.get_num_threads() // workers
    with ProcessPoolExecutor(workers, _context(), initializer=_begin, initargs=(each,)) as pool:
        begun = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in begun]
        finally:
            for future in begun:
                future.cancel()


def _begin(threads: int) -> None:
    """A worker's first act: its share of the threads; it ends at Ctrl-C without a traceback, and with its parent."""
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
