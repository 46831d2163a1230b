"""A launch on this machine: inference servers, the trainer's processes, and their end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from heedful.launch import machine
from heedful.launch import servers as inference
from heedful.launch.processes import Child, ProcessPlace, Say, ended, forwarding, nothing, send, start, stop, wait
from heedful.launch.servers import Servers

HEEDFUL = (sys.executable, "-m", "heedful")


def run(
    arguments: Sequence[str], logs: Path, say: Say, *, processes: int | None = None, servers: Servers | None = None,
    port: int | None = None, program: Sequence[str] = HEEDFUL,
) -> int:  # fmt: skip
    """Run a heedful command in several processes, and servers next to it. Returns the exit code of the trainer.

    `program`: what gets the arguments.
    """
    shared = servers is not None and servers.sleep
    count, own, others = machine.divided(processes, servers.count if servers is not None else 0, shared=shared)
    meeting = machine.free_port(port)
    logs.mkdir(parents=True, exist_ok=True)
    command = [*program, *arguments, *(servers.settings() if servers is not None else [])]
    ranks = _ranks(command, count, own, meeting, logs)
    with contextlib.ExitStack() as held:
        look = nothing
        if servers is not None:
            look = held.enter_context(inference.running(servers, others, logs, say))
        held.callback(stop, ranks)
        with forwarding(count, partial(send, ranks), say):
            for rank in ranks:
                start(rank)
            failed = wait(ranks, look)
    if failed is None or failed.code is None:
        return 0
    return ended(failed.name, failed.code, failed.log, say, failed.last_line(), ranks[0].end_of_log())


def environment(rank: int, count: int, port: int, gpus: Sequence[str]) -> dict[str, str]:
    """What torchrun would set for a process on one machine."""
    found = ProcessPlace(rank, rank, count, count, "127.0.0.1", port).environment()
    names = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return found | names


def _ranks(command: Sequence[str], count: int, gpus: Sequence[str], port: int, logs: Path) -> list[Child]:
    return [
        Child(f"rank {n}", command, logs / f"rank-{n}.log", environment(n, count, port, gpus), shown=n == 0)
        for n in range(count)
    ]
