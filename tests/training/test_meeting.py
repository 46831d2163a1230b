"""Ranks that do not come, and places that cannot be reached, are one line."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from heedful.config import UserError
from heedful.training import launcher, meeting


def start(python: Path, rank: int, port: int, how: str = "SIGSTOP", **more: str) -> subprocess.Popen[str]:
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = os.environ | place | {meeting.VARIABLE: "2"} | more
    return subprocess.Popen(
        [python, "-m", "training.rank", how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_a_rank_that_stops_is_named(python: Path) -> None:
    port = free_port()
    ranks = [start(python, rank, port) for rank in range(2)]
    try:
        assert ranks[0].stdout is not None
        said = ranks[0].stdout.read()
        code = ranks[0].wait(120)
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert code == 2
    assert said.splitlines()[0] == "met"
    assert "rank 1 of 2 has not answered for 2 seconds. See what stopped it" in said.splitlines()[1]


@pytest.mark.slow
def test_a_place_that_nobody_reaches_is_one_line(python: Path) -> None:
    rank = start(python, 1, free_port())
    said, _ = rank.communicate(timeout=120)
    assert rank.returncode == 2
    assert said.startswith("MASTER_ADDR and MASTER_PORT: the ranks cannot meet at 127.0.0.1:")
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_an_odd_patience_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(meeting.VARIABLE, text)
    with pytest.raises(UserError, match=f"{meeting.VARIABLE} is '{text}'. Give seconds"):
        meeting.patience()


@pytest.mark.parametrize(("text", "count"), [("4", 4), ("", 1), ("0", 1)])
def test_the_ranks_of_this_machine(text: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
    assert launcher.on_this_machine() == count
    for odd in ("two", "-1", "1.5"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", odd)
        with pytest.raises(UserError, match=f"LOCAL_WORLD_SIZE is '{odd}', not a number"):
            launcher.on_this_machine()
