"""The place of this process among those that torchrun started, read from the environment. No torch."""

from __future__ import annotations

import os

from heedful.errors import UserError

REMEDY = "Start several processes with torchrun, or unset WORLD_SIZE"


def place() -> tuple[int, int, int]:
    """(rank, number of ranks, rank on this machine).

    A single process has rank 0, whatever RANK a job left in the environment. Raises UserError if the variables
    contradict each other.
    """
    size = _number("WORLD_SIZE", default=1)
    if size <= 1:
        return 0, 1, 0
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(f"WORLD_SIZE is {size} and {missing[0]} is not set. {REMEDY}")
    rank, _ = _number("RANK"), _number("MASTER_PORT")
    if rank >= size:
        raise UserError(f"RANK is {rank} and WORLD_SIZE {size}. {REMEDY}")
    return rank, size, _number("LOCAL_RANK", default=0)


def on_this_machine() -> int:
    """The number of ranks on this machine."""
    return max(1, _number("LOCAL_WORLD_SIZE", default=1))


def _number(name: str, default: int = 0) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name} is '{text}', not a number from 0 on. {REMEDY}")
    return int(text)
