"""A launch on Ray, as far as it goes without Ray: the process of one worker, and what is refused. See tests/on_ray."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main
from heedful.config import UserError
from heedful.launch import cluster, processes, worker
from heedful.launch.processes import ProcessPlace
from heedful.launch.worker import Board, End, Order

SHOW = (
    "import os, sys; names = 'RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT HEEDFUL_X'; "
    "print(*(os.environ[name] for name in names.split()), os.getcwd()); print('aside', file=sys.stderr); sys.exit(7)"
)
WAITING = """
import os, signal, sys, time
def stop(number, frame):
    sys.exit(128 + number)
signal.signal(signal.SIGINT, stop)
open(sys.argv[1], "w").close()
time.sleep(1000)
"""


def order(tmp_path: Path, script: str, *more: str) -> Order:
    return Order(["-c", script, *more], str(tmp_path), str(tmp_path), {"HEEDFUL_X": "x"})


def calls(board: Board) -> Callable[..., Any]:
    return lambda name, *given: getattr(board, name)(*given)


def soon(condition: Callable[[], bool], then: Callable[[], object]) -> None:
    def wait() -> None:
        while not condition():
            time.sleep(0.02)
        then()

    threading.Thread(target=wait, daemon=True).start()


def test_a_worker_starts_what_torchrun_would_start(tmp_path: Path) -> None:
    """Output of the first rank goes to the board, that of all to their logs, and so does the exit code."""
    board = Board()
    for rank in (1, 0):
        place = ProcessPlace(rank, rank - 1 if rank else 0, 2, 1, "10.0.0.1", 4000)
        assert worker.work(order(tmp_path, SHOW), place, calls(board)) == 7
    said, started, ends = board.take()
    shown = f"0 0 2 1 10.0.0.1 4000 x {tmp_path}\n"
    assert ["".join(text for name, text in said if name == of) for of in ("stdout", "stderr")] == [shown, "aside\n"]
    here = socket.gethostname()
    assert started == 2
    last = {ends[1].line} & {"aside", shown.strip()}  # two streams of the first rank share its log, in any order
    assert ends == [End(1, 7, here, "aside"), End(0, 7, here, *last)]
    assert "1 0 2 1 10.0.0.1 4000 x" in (tmp_path / "rank-1.log").read_text("utf-8")
    assert board.take()[0] == []  # nothing is shown twice


def test_a_signal_reaches_a_process_although_ray_blocks_it(tmp_path: Path) -> None:
    board, there = Board(), tmp_path / "there"
    soon(there.exists, lambda: board.signal(signal.SIGINT))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        assert worker.work(order(tmp_path, WAITING, str(there)), ProcessPlace(1, 1, 2, 2, "h", 1), calls(board)) == 130
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_process_that_outlives_a_failed_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.0)
    board, there = Board(), tmp_path / "there"
    soon(there.exists, lambda: board.end(0, 2))
    assert worker.work(order(tmp_path, WAITING, str(there)), ProcessPlace(1, 1, 2, 2, "h", 1), calls(board)) == -9
    assert [(end.rank, end.code) for end in board.take()[2]] == [(0, 2), (1, -9)]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a process of its parent's end on Linux alone")
def test_a_process_ends_with_its_ray_worker(tmp_path: Path) -> None:
    there = tmp_path / "there"
    script = WAITING.replace("SIGINT", "SIGTERM").replace("open(sys.argv[1]", "open(f'{sys.argv[1]}-{os.getpid()}'")
    with contextlib.suppress(ChildProcessError):
        if (parent := os.fork()) == 0:
            worker.work(
                order(tmp_path, script, str(there)), ProcessPlace(1, 1, 2, 2, "h", 1), lambda *given: ([], False)
            )
    try:
        while not (found := list(tmp_path.glob("there-*"))):
            time.sleep(0.02)
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    child, until = int(found[0].name.partition("-")[2]), time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_machine_without_the_folder_is_one_line(tmp_path: Path) -> None:
    board = Board()
    nowhere = Order(["-c", ""], str(tmp_path / "nowhere"), str(tmp_path / "nowhere" / "logs"))
    assert worker.work(nowhere, ProcessPlace(0, 0, 1, 1, "h", 1), calls(board)) == 2
    ((stream, line),) = board.take()[0]
    assert stream == "stderr"
    assert line == (
        f"launch: rank 0 on {socket.gethostname()}: {tmp_path}/nowhere: No such file or directory. All machines of "
        "the cluster need the folder that you start in, at the same path\n"
    )
    assert list(tmp_path.iterdir()) == []
    elsewhere = Order(["-c", ""], str(tmp_path), str(tmp_path / "logs" / "more"))
    assert worker.work(elsewhere, ProcessPlace(0, 0, 1, 1, "h", 1), calls(board)) == 0
    assert (tmp_path / "logs" / "more" / "rank-0.log").exists()


def test_a_process_for_each_gpu() -> None:
    assert cluster.counted(None, 4, {"CPU": 8}) == 4
    assert cluster.counted(3, 4, {"CPU": 8}) == 3
    assert cluster.counted(None, 0, {"CPU": 8}) == 1
    with pytest.raises(UserError, match=r"launch: 4 processes need a GPU each, and the Ray cluster has 2\. Lower"):
        cluster.counted(4, 2, {"CPU": 8})
    assert cluster.counted(None, 4, {"CPU": 8}, servers=1) == 3
    assert cluster.counted(None, 0, {"CPU": 8}, servers=1) == 1
    with pytest.raises(UserError, match=r"launch: 4 processes and 1 server need 5 GPUs, and the Ray cluster has 4\."):
        cluster.counted(4, 4, {"CPU": 8}, servers=1)
    with pytest.raises(UserError, match=r"launch: 1 process and 2 servers need 3 GPUs, and the Ray cluster has 2\."):
        cluster.counted(None, 2, {"CPU": 8}, servers=2)
    with pytest.raises(UserError, match=r"launch: the process needs a CPU, and the Ray cluster has 0\. Lower"):
        cluster.counted(None, 0, {})


@pytest.mark.medium
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("-- sft --model m --data d --out o", "launch: --ray needs ray: pip install"),
        ("-- sft --model m --data d --out o --epochs few", "the options: 'epochs': must be a whole number"),
        ("-- label", "launch: label does not run in several processes"),
        ("--port 4000 -- sft", "--port: not with --ray. Leave it out, and give --processes"),
        ("--nodes 2 -- sft", "--nodes: not with --ray. Leave it out, and give --processes"),
        ("--slurm f -- sft", "--slurm: not with --ray. Leave it out, and give --processes"),
        ("--servers 1 -- sft --model m", "--servers: heedful sft samples nothing while it learns. Leave it out"),
        (
            "--servers 1 -- ppo --policy p --prompts p --reward r --out o --engine.urls http://a",
            "--servers: the settings name servers already",
        ),
    ],
)
def test_what_cannot_be_launched_on_ray_is_one_line(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)  # also where it is installed
    with pytest.raises(SystemExit) as end:
        main(["launch", "--ray", *given.split()])
    (line,) = capsys.readouterr().err.splitlines()
    assert (end.value.code, line[: len(said)]) == (2, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "ray://head:10001",
            r"RAY_ADDRESS is ray://head:10001, which is for clients outside\. Start heedful launch",
        ),
        ("127.0.0.1:9", r"RAY_ADDRESS: no Ray cluster answers at 127\.0\.0\.1:9 \(.*refused\)\. Check it"),
        ("127.0.0.1:99999", r"RAY_ADDRESS: no Ray cluster answers at 127\.0\.0\.1:99999 \(.*\)\. Check it"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=said), cluster._joined(None, 2, print):
        pass
