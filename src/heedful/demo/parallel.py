"""Steps that do not need each other, on one core each: small models gain little from a second thread."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of `calls`, in their order; each call in a process of its own as long as there are threads.

    Calls and results are pickled. The first error is raised when all that had begun have ended; what they wrote stays.
    """
    workers = min(torch.get_num_threads(), len(calls))
    if workers < 2:
        return [call() for call in calls]
    context = multiprocessing.get_context("spawn")
    each = torch.get_num_threads() // workers
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(each,)) as pool:
        begun = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in begun]
        finally:
            for future in begun:
                future.cancel()
