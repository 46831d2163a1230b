"""Calls in processes of their own, on their share of the threads."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from heedful.config import UserError
from heedful.demo import parallel
from heedful.demo.parallel import side_by_side
from heedful.runs.resumable import Interrupted

TESTS = Path(__file__).resolve().parent.parent


def where(name: str) -> tuple[str, int, int]:
    return name, os.getpid(), torch.get_num_threads()


def fail() -> tuple[str, int, int]:
    raise UserError("rankings.jsonl: not there; make it")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_on_one_thread_everything_stays_here() -> None:
    assert side_by_side([partial(where, "a"), partial(where, "b")]) == [("a", os.getpid(), 1), ("b", os.getpid(), 1)]


def test_without_a_fork_server_everything_stays_here(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: only "spawn" exists, and `multiprocessing` lacks what a fork server needs."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.delattr(multiprocessing.context, "ForkServerContext")
    monkeypatch.setitem(sys.modules, "multiprocessing.forkserver", None)
    importlib.reload(parallel)
    parallel.get_ready()
    calls = [partial(where, "a"), partial(where, "b")]
    assert parallel.side_by_side(calls) == [("a", os.getpid(), 2), ("b", os.getpid(), 2)]


@pytest.mark.slow
def test_each_call_gets_a_process_and_its_share_of_the_threads(two_threads: None) -> None:
    found = side_by_side([partial(where, name) for name in "abc"])
    assert [(name, threads) for name, _, threads in found] == [("a", 1), ("b", 1), ("c", 1)]
    assert os.getpid() not in {process for _, process, _ in found}


def test_an_error_keeps_its_words(two_threads: None) -> None:
    with pytest.raises(UserError, match=r"rankings\.jsonl: not there; make it"):
        side_by_side([fail, partial(where, "b")])


def interrupted() -> tuple[str, int, int]:
    raise Interrupted("runs/ppo: interrupted", 15)


def test_a_stopped_run_is_told_with_its_signal(two_threads: None) -> None:
    with pytest.raises(Interrupted, match="runs/ppo: interrupted") as error:
        side_by_side([interrupted, partial(where, "b")])
    assert error.value.signal_number == 15


PROGRAM = """
import sys, torch
from functools import partial
from pathlib import Path
from demo.staying import stay
from heedful.demo import parallel
if __name__ == "__main__":
    torch.set_num_threads(2)
    parallel.PRELOADED = ["heedful.demo.parallel"]  # the seconds of the other imports are not needed here
    parallel.side_by_side([partial(stay, Path(sys.argv[1]), name) for name in "ab"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nobody_stays_behind_when_it_is_stopped(tmp_path: Path, how: signal.Signals) -> None:
    """SIGINT as a terminal sends it, to all of them; the others to the parent alone."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    path = os.pathsep.join(map(str, (TESTS, TESTS.parent / "src")))
    told = tmp_path / "told"
    with told.open("w") as file:
        parent = subprocess.Popen(
            [sys.executable, str(program), str(tmp_path)], env={**os.environ, "PYTHONPATH": path},
            stderr=file, start_new_session=True,
        )  # fmt: skip
    marks = [tmp_path / name for name in "ab"]
    _wait_for(lambda: all(mark.exists() and mark.read_text() for mark in marks), 60)
    os.killpg(parent.pid, how) if how == signal.SIGINT else parent.send_signal(how)
    parent.wait(30)
    _wait_for(lambda: not any(_lives(int(mark.read_text())) for mark in marks), 20)
    assert "Process SpawnProcess" not in told.read_text()  # a worker's traceback


def _wait_for(happened: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def _lives(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.medium
def test_ctrl_c_while_the_server_imports_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text(
        "import pathlib, time\npathlib.Path(__file__).with_name('begun').touch()\ntime.sleep(5)\n"
    )
    script = (
        "import signal, time\nfrom heedful.demo import parallel\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nparallel.PRELOADED = ['slow_import']\n"
        "parallel.get_ready()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    ) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=60)[1] == ""
