"""Two "hosts": network namespaces with a cable between them, and torchrun on each. `make test-scale`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hosts
from heedful.files import read_json
from heedful.runs.run import metrics
from stages import worlds

PORT = "29533"
NOT_ASKED = "" if os.environ.get("HEEDFUL_TEST_SCALE") else "two hosts: run make test-scale"
pytestmark = pytest.mark.skipif(bool(why := NOT_ASKED or hosts.forbidden()), reason=why)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("hosts"))


@pytest.fixture
def two() -> Iterator[None]:
    with hosts.connected():
        yield


def given(files: worlds.Files, out: Path, *more: str) -> list[str]:
    options = "--dropout 0 --batch 4 --epochs 4 --optimiser.lr 1e-3 --optimiser.eps 1e-6 --checkpoint.every 1".split()
    where = ["--model", files.policy, "--data", files.demos, "--out", str(out), "--compute.micro-tokens", "64"]
    return ["-m", "heedful", "sft", *where, *options, *more]


def torchrun(files: worlds.Files, out: Path, *more: str) -> list[subprocess.Popen[str]]:
    """The commands of docs/scale.md, one on each host."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    meeting = ["--rdzv-id", "sft", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts.ADDRESSES[0]}:{PORT}"]
    env = os.environ | {"GLOO_SOCKET_IFNAME": "cable", "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [*hosts.on(rank, *command), "--node-rank", str(rank), "--local-addr", hosts.ADDRESSES[rank], *meeting,
             "--rdzv-conf", f"is_host={1 - rank}",
             *given(files, out, *more)],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        for rank in range(2)
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[str]], seconds: float = 300) -> list[tuple[int, str]]:
    """(exit code, standard error) of each torchrun."""
    try:
        return [(process.wait(seconds), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def wait_for(run: Path, steps: int, processes: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + 300
    while len(metrics(run) if (run / "metrics.jsonl").exists() else []) < steps:
        assert all(process.poll() is None for process in processes), [p.communicate()[1] for p in processes]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(files: worlds.Files) -> Path:
    """The same run on one host."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    out = files.root / "whole"
    subprocess.run([*command, *given(files, out)], check=True, capture_output=True, timeout=300)
    return out


def rank_of(process: subprocess.Popen[str], run: Path) -> int:
    """The process id of the rank that a torchrun has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        parent = (folder / "status").read_text("utf-8").partition("PPid:")[2].split()[0]
        if int(parent) == process.pid and str(run).encode() in (folder / "cmdline").read_bytes():
            return int(folder.name)
    raise AssertionError("no rank")


def runs(process: int) -> bool:
    """Whether a process runs. A torchrun that waits does not collect the ones that have ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return False


@pytest.mark.usefixtures("two")
def test_two_hosts_are_one_also_after_a_cut_of_30_seconds(files: worlds.Files, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = torchrun(files, run)
    try:
        wait_for(run, 5, processes)
        hosts.cable("down")
        time.sleep(30)
        before = len(metrics(run))
        hosts.cable("up")
    finally:
        found = ended(processes)
    assert [code for code, _ in found] == [0, 0], found
    assert before < len(metrics(run))
    assert worlds.disagreements(whole, run, 1e-6) == []


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("fault", ["a killed rank", "a cable that stays cut"])
def test_a_lost_host_is_one_line_and_resume_goes_on(
    files: worlds.Files, whole: Path, tmp_path: Path, fault: str
) -> None:
    run = tmp_path / "run"
    processes, lost = torchrun(files, run), 0
    try:
        wait_for(run, 5, processes)
        began, lost = time.monotonic(), rank_of(processes[1], run)
        if fault == "a killed rank":
            os.kill(lost, signal.SIGKILL)
        else:
            hosts.cable("down")
        own = rank_of(processes[0], run)
        while runs(own) or runs(lost):
            assert time.monotonic() - began < 60, "a rank outlives a lost one by more than a minute"
            time.sleep(0.1)
        if fault != "a killed rank":  # torchrun itself waits much longer for the other host
            os.killpg(processes[1].pid, signal.SIGKILL)
    finally:
        (code, said), (other, told) = ended(processes)
    assert code != 0
    assert other != 0
    how = "has died" if fault == "a killed rank" else "cannot be reached"
    if fault != "a killed rank":
        assert [line for line in told.splitlines() if line.startswith("rank 0 of 2 cannot be reached")]
    (line,) = [line for line in said.splitlines() if line.startswith(f"rank 1 of 2 {how}")]
    assert line.endswith("start all ranks again with --resume")
    assert read_json(run / "manifest.json")["status"] in ("running", "failed")
    assert not list(run.rglob("*.tmp"))
    if fault != "a killed rank":
        hosts.cable("up")
    assert [code for code, _ in ended(torchrun(files, run, "--resume"))] == [0, 0]
    assert worlds.hashes(run) == worlds.hashes(whole)
