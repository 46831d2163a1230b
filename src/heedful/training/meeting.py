"""Meetings of ranks: a rank that stops without dying, or a place that nobody reaches, becomes one line.

A collective operation of torch waits without an end for a rank that a signal or a hung disk has stopped, and does not
say which one it is. So the ranks meet in the store of the process group first. Who does not come is named.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.distributed.rendezvous import rendezvous

from heedful.config import UserError
from heedful.runs.progress import Reporter
from heedful.training.lifeline import Lifeline

VARIABLE = "HEEDFUL_RANK_TIMEOUT"
NOTICE = 5.0  # seconds in which a rank hears of another one that has died
SECONDS = 1800.0  # a rank may write a large checkpoint while the others wait


def patience() -> float:
    """Seconds that ranks wait for each other."""
    text = os.environ.get(VARIABLE) or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UserError(f"{VARIABLE} is '{text}'. Give seconds, more than 0")
    return seconds


PrefixStore: Any = vars(distributed_c10d)["PrefixStore"]  # torch exports it without types
_OF_NETWORKS = ("gloo", "nccl", "connection", "peer", "timed out")


class Meeting:
    """The store of the process group, and how often this rank has come to it."""

    def __init__(self, store: Any, rank: int, size: int, seconds: float, lifeline: Lifeline) -> None:
        self.lifeline = lifeline
        self._store, self._rank, self._size, self._seconds = store, rank, size, seconds
        self._number = 0

    @contextlib.contextmanager
    def all_there(self) -> Iterator[None]:
        """Wait until every rank has come here too. Raises UserError that names a rank that does not."""
        self._number += 1
        mine, keys = self._key(self._rank), [self._key(rank) for rank in range(self._size)]
        try:
            self._store.set(mine, b"")
            self._store.wait(keys, datetime.timedelta(seconds=self._seconds))
        except RuntimeError as error:  # torch's DistError is one
            raise UserError(self._who_is_missing(error)) from None
        if self._number > 2:  # everybody has left the meeting before the last one
            self._store.delete_key(self._key(self._rank, self._number - 2))
        with self.explained():
            yield

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """A context that turns an error of the network into one line. If the main rank is gone, rank 1 shows it."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and not any(word in str(error).lower() for word in _OF_NETWORKS):
                raise
            why = self._lost(error)
            if self._rank == 1 and self.lifeline.lost.startswith("rank 0 "):
                Reporter("", 0).say(why)
            raise UserError(why) from None

    def _key(self, rank: int, number: int | None = None) -> str:
        return f"heedful/{self._number if number is None else number}/{rank}"

    def _who_is_missing(self, error: RuntimeError) -> str:
        try:
            missing = [rank for rank in range(self._size) if not self._store.check([self._key(rank)])]
        except RuntimeError:
            missing = []
        if not missing:
            return self._lost(error)
        names = ", ".join(map(str, missing))
        return (
            f"rank {names} of {self._size} has not answered for {self._seconds:g} seconds. See what stopped it (a"
            f" signal, a hung disk), and start all ranks again with --resume. {VARIABLE} sets how long ranks wait"
        )

    def _lost(self, error: RuntimeError) -> str:
        if lost := self.lifeline.wait_lost(NOTICE):
            return lost
        return f"rank {self._rank} has lost the others ({_reason(error)}). Start all ranks again with --resume"


def join(backend: str, rank: int, size: int) -> Meeting:
    """Join the process group that torchrun announces. Raises UserError if its place cannot be reached."""
    seconds = patience()
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    wait = datetime.timedelta(seconds=min(seconds, 300.0))
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=wait)))
        store.set_timeout(datetime.timedelta(seconds=seconds))
        group = PrefixStore("group", store)
        dist.init_process_group(
            backend, store=group, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=seconds)
        )
        lifeline = Lifeline(rank, size, PrefixStore("lifeline", store))
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"MASTER_ADDR and MASTER_PORT: the ranks cannot meet at {where} ({_reason(error)}). Start all ranks with"
            " the address of a machine that all of them reach"
        ) from None
    return Meeting(PrefixStore("heedful", store), rank, size, seconds, lifeline)


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split("\n")[0].split())
    return said[:150] or type(error).__name__
