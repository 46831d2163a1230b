"""The file of `heedful launch --slurm` on a real Slurm of one node, which is started here. `make test-scale`."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heedful.files import read_json
from heedful.runs.run import metrics
from stages import worlds
from training.test_meeting import free_port

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "scancel")
SBIN = "/usr/sbin:/sbin"
CONF = """
ClusterName=heedful
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here. Empty: there can."""
    if not os.environ.get("HEEDFUL_TEST_SCALE"):
        return "Slurm: run make test-scale"
    path = f"{os.environ['PATH']}:{SBIN}"
    lacking = [name for name in TOOLS if shutil.which(name, path=path) is None]
    return f"Slurm: this machine has no {lacking[0]}. On Debian: apt-get install slurm-wlm" if lacking else ""


pytestmark = [pytest.mark.skipif(bool(why := missing()), reason=why), pytest.mark.timeout(900)]


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment of commands that find a Slurm of one node without GPUs."""
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # the path of a socket must be short
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o600)
    values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
    (folder / "slurm.conf").write_text(CONF.format(control=free_port(), node=free_port(), **values), "utf-8")
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:{SBIN}"}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    names = {"key-file": "key", "socket": "munge.socket", "pid-file": "pid", "log-file": "munged", "seed-file": "seed"}
    munged = ["munged", "--foreground", "--force", *(f"--{key}={folder / name}" for key, name in names.items())]
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{command[0]}.log").open("wb") as log:
                daemons.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        end = time.monotonic() + 60
        while "idle" not in asked(env, "sinfo", "--noheader", "--format=%t"):
            dead = [one for one in daemons if one.poll() is not None]
            if dead or time.monotonic() > end:
                said = "".join(file.read_text("utf-8", "replace") for file in folder.glob("*.log")).splitlines()
                pytest.skip(f"Slurm: does not start here ({(said or [''])[-1][:200]})")
            time.sleep(0.2)
        yield env
        asked(env, "scancel", "--user", values["user"])
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("slurm"))


def asked(env: dict[str, str], *command: object) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False).stdout


def options(files: worlds.Files, out: Path, epochs: int) -> list[str]:
    given = f"--dropout 0 --batch 4 --epochs {epochs} --optimiser.lr 1e-3 --optimiser.eps 1e-6 --checkpoint.every 1"
    where = ["--model", files.policy, "--data", files.demos, "--out", str(out), "--compute.micro-tokens", "64"]
    return ["-m", "heedful", "sft", *where, *given.split()]


def submitted(env: dict[str, str], folder: Path, given: list[str]) -> str:
    """The number of a job: two processes on the node, with the file that `heedful launch` writes for them."""
    file = folder / "job.sbatch"
    if not file.exists():
        command = [sys.executable, "-m", "heedful", "launch", "--slurm", str(file), "--gpus", "0", "--processes", "2"]
        command += ["--hours", "1", "--logs", "my logs", "--", *given[2:]]
        assert subprocess.run(command, env=env, cwd=folder, capture_output=True, check=False).returncode == 0
    return asked(env, "sbatch", "--parsable", file).strip()


def state(env: dict[str, str], job: str) -> str:
    return asked(env, "scontrol", "show", "job", job).partition("JobState=")[2].split()[0]


def steps(run: Path) -> int:
    return len(metrics(run)) if (run / "metrics.jsonl").exists() else 0


def said(folder: Path) -> str:
    return "".join(file.read_text("utf-8") for file in sorted((folder / "my logs").glob("*.log")))


def test_a_job_that_slurm_starts_again_goes_on_to_the_same_bytes(
    slurm: dict[str, str], files: worlds.Files, tmp_path: Path
) -> None:
    run, whole = tmp_path / "my run", tmp_path / "whole"
    job = submitted(slurm, tmp_path, options(files, run, 6))
    until(lambda: steps(run) >= 5 or state(slurm, job) in ("FAILED", "COMPLETED"))
    before = steps(run)
    asked(slurm, "scontrol", "requeue", job)
    until(lambda: state(slurm, job) == "PENDING")
    asked(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm would wait for two minutes
    until(lambda: state(slurm, job) in ("FAILED", "COMPLETED"))
    assert state(slurm, job) == "COMPLETED", said(tmp_path)
    assert 5 <= before < steps(run) == 36
    assert read_json(run / "manifest.json")["status"] == "finished"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, *options(files, whole, 6)], env=slurm, check=True, capture_output=True, timeout=300)
    assert worlds.hashes(run) == worlds.hashes(whole)


def test_a_job_whose_time_ends_saves_a_checkpoint_first(
    slurm: dict[str, str], files: worlds.Files, tmp_path: Path
) -> None:
    """Slurm's own warning, two minutes before the end. It reaches all processes, and torchrun hands it on."""
    run, began = tmp_path / "run", time.monotonic()
    job = submitted(slurm, tmp_path, options(files, run, 100_000))
    until(lambda: steps(run) >= 3 or state(slurm, job) == "FAILED")
    assert state(slurm, job) == "RUNNING", said(tmp_path)
    minutes = 2 + int(time.monotonic() - began) // 60  # one to two more
    asked(slurm, "scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    until(lambda: state(slurm, job) in ("FAILED", "TIMEOUT", "COMPLETED", "CANCELLED"))
    shown = said(tmp_path) + asked(slurm, "scontrol", "show", "job", job)
    assert state(slurm, job) == "FAILED", shown  # before its time is over
    assert read_json(run / "manifest.json")["status"] == "interrupted", shown
    assert f"{run}: interrupted at step" in shown
