"""Lost ranks: what is asked of the system, how a silent machine differs from a dead process, and what is said."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from heedful.training import lifeline
from heedful.training.lifeline import DEAD, KEPT, SILENT, Lifeline


class Store:
    """What two ranks know in common."""

    def __init__(self) -> None:
        self._there, self._value = threading.Event(), b""

    def set(self, key: str, value: bytes) -> None:
        self._value = value
        self._there.set()

    def get(self, key: str) -> bytes:
        assert self._there.wait(60)
        return self._value


Ranks = Callable[[int], list[Lifeline]]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    """Ranks of one process. In the end, all of them leave."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr("atexit.register", lambda function: None)
    found: dict[int, Lifeline] = {}

    def make(size: int) -> list[Lifeline]:
        store: Any = Store()
        main = threading.Thread(target=lambda: found.update({0: Lifeline(0, size, store)}))
        main.start()
        for rank in range(1, size):
            found[rank] = Lifeline(rank, size, store)
        main.join(60)
        return [found[rank] for rank in range(size)]

    yield make
    for one in found.values():
        one.leave()
    for one in found.values():
        for link in list(one._peers):
            with contextlib.suppress(OSError):  # the other side has ended
                link.shutdown(socket.SHUT_RDWR)
        while one._peers:
            time.sleep(0.01)


def test_a_vanished_machine_is_lost_within_a_minute_and_a_cut_of_30_seconds_loses_none() -> None:
    least = KEPT["TCP_KEEPINTVL"] * KEPT["TCP_KEEPCNT"]
    assert least >= 40
    assert KEPT["TCP_KEEPIDLE"] + least + SILENT.grace <= 50


@pytest.mark.skipif(sys.platform != "linux", reason="names of the options differ")
def test_the_system_asks_silent_machines_on_both_sides(ranks: Ranks) -> None:
    for one in ranks(2):
        (link,) = one._peers
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = {name: link.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEPT}
        assert found == KEPT


@pytest.mark.parametrize(
    ("number", "how", "grace", "remedy"),
    [
        (errno.ETIMEDOUT, "cannot be reached", SILENT.grace, "See whether its machine and the network work"),
        (errno.EHOSTUNREACH, "cannot be reached", SILENT.grace, "See whether its machine and the network work"),
        (errno.ECONNRESET, "has died", DEAD.grace, "See what stopped it"),
        (0, "has died", DEAD.grace, "See what stopped it"),
    ],
)
def test_all_ranks_name_the_lost_one_and_end_in_their_time(
    number: int, how: str, grace: float, remedy: str, ranks: Ranks, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The link between ranks 0 and 2 fails: rank 1 hears it from rank 0."""
    main, other, lost = ranks(3)
    monkeypatch.setattr(lost, "_end", lambda *given: None)
    timers: list[tuple[float, Any]] = []
    monkeypatch.setattr(threading.Timer, "start", lambda self: timers.append((self.interval, self.function)))
    (link,), (broken,) = lost._peers, (one for one, rank in main._peers.items() if rank == 2)
    receive = socket.socket.recv

    def fail(self: socket.socket, *given: int) -> bytes:
        if self is broken and number:
            raise OSError(number, os.strerror(number))
        return receive(self, *given)

    monkeypatch.setattr(socket.socket, "recv", fail)
    link.shutdown(socket.SHUT_RDWR)
    for one in (main, other):
        said = one.wait_lost(60)
        assert said.startswith(f"rank 2 of 3 {how}. {remedy}")
        assert said.endswith("start all ranks again with --resume")
    while len(timers) < 2:
        time.sleep(0.01)
    monkeypatch.setattr(lifeline.os, "_exit", lambda code: print(code))
    for after, stop in timers:
        assert after == grace
        stop()
    shown = capsys.readouterr()
    assert shown.out == "2\n2\n"
    assert shown.err.count(f"rank 2 of 3 {how}. {remedy}") == 2


def test_all_ranks_hear_the_error_of_one(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Timer, "start", lambda self: None)
    main, other, failed = ranks(3)
    failed.fail("d.jsonl: No such file.\n\tCheck the path " + 300 * "\N{GREEK SMALL LETTER ALPHA}")
    cut = (512 - len("2\thas stopped with an error\td.jsonl: No such file. Check the path ")) // 2
    why = "d.jsonl: No such file. Check the path " + cut * "\N{GREEK SMALL LETTER ALPHA}"
    for one in (main, other):
        remedy = "Correct that, and start all ranks again with --resume"
        assert one.wait_lost(60) == f"rank 2 of 3 has stopped with an error ({why}). {remedy}"


def test_a_rank_that_leaves_is_not_lost(ranks: Ranks) -> None:
    main, other = ranks(2)
    other.leave()
    while main._peers:
        time.sleep(0.01)
    assert main.wait_lost(0) == ""
