"""Stages on a real Ray cluster of one machine. `make test-ray` installs Ray. Elsewhere these tests are skipped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from heedful.files import read_json
from heedful.runs.run import metrics
from stages import worlds

PYTHON = os.environ.get("RAY_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="Ray: run make test-ray, which sets RAY_PYTHON"),
    pytest.mark.timeout(900),
]
ROOT = Path(__file__).parents[2]
CLUSTER = """
import ray, sys
context = ray.init(address="local", num_cpus=3, include_dashboard=False, object_store_memory=128 << 20)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | quiet | {"PYTHONPATH": f"{ROOT / 'src'}", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of commands that find a cluster of three CPUs."""
    with subprocess.Popen(
        [PYTHON, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address
        yield environment | {"RAY_ADDRESS": address}
        process.communicate("")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("ray"))


def options(files: worlds.Files, stage: str) -> list[str]:
    """The options of a stage whose run has some 20 steps."""
    if stage == "sft":
        given = {"model": files.policy, "data": files.demos, "epochs": 4, "batch": 4, "dropout": 0}
    else:
        given = {
            "policy": files.policy, "reward": files.judge, "prompts": files.prompts, "episodes": 16,
            "rollout-batch": 8, "minibatch": 4, "max-prompt-tokens": 60, "generation.max-new-tokens": 12,
            "value-optimiser.lr": 1e-3, "value-optimiser.eps": 1e-6, "optimiser.schedule": "constant",
        }  # fmt: skip
    given |= {"optimiser.lr": 1e-3, "optimiser.eps": 1e-6, "compute.micro-tokens": 64, "checkpoint.every": 1}
    return [stage, *(part for key, value in given.items() for part in (f"--{key}", str(value)))]


def launch(*given: str, processes: int = 2) -> list[str]:
    return [PYTHON, "-m", "heedful", "launch", "--ray", "--processes", str(processes), "--", *given]


def ended(command: list[str], env: dict[str, str], cwd: Path) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=400)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("stage", ["sft", "ppo"])
def test_two_workers_are_torchrun_with_two_processes(
    files: worlds.Files, cluster: dict[str, str], tmp_path: Path, stage: str
) -> None:
    given = options(files, stage)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "heedful"]
    code, _, said = ended([*torchrun, *given, "--out", "torchrun"], cluster, tmp_path)
    assert code == 0, said
    code, shown, said = ended(launch(*given, "--out", "ray", "--json"), cluster, tmp_path)
    assert code == 0, said
    assert json.loads(shown)["status"] == "finished"  # standard output is that of the stage, whole
    assert len(metrics(tmp_path / "ray")) >= 2
    assert worlds.disagreements(tmp_path / "torchrun", tmp_path / "ray", 1e-6) == []
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["rank-0.log", "rank-1.log"]


def wait_for(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while len(metrics(run) if (run / "metrics.jsonl").exists() else []) < steps:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


def ranks(run: Path) -> dict[int, int]:
    """Process ids of the ranks that write a run."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, env = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(run).encode() in command and b"launch" not in command and b"\0RANK=" in b"\0" + env:
            found[int((b"\0" + env).split(b"\0RANK=")[1].split(b"\0")[0])] = int(folder.name)
    return found


def started(command: list[str], env: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    """A command as a terminal starts it: in a group of its own, all of which gets a Ctrl-C."""
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heeded,
    )  # fmt: skip


def test_one_ctrl_c_ends_everything_and_resume_goes_on(
    files: worlds.Files, cluster: dict[str, str], tmp_path: Path
) -> None:
    """Interrupted, then with a killed rank, then with a killed worker of Ray: the same bytes in the end."""
    given, run = options(files, "sft"), tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "heedful"]
    assert ended([*torchrun, *given, "--out", "whole"], cluster, tmp_path)[0] == 0

    with started(launch(*given, "--out", str(run)), cluster, tmp_path) as process:
        wait_for(run, 3, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "launch: SIGINT to 2 processes" in said
    assert f"{run}: interrupted at step" in said
    assert ranks(run) == {}
    assert read_json(run / "manifest.json")["status"] == "interrupted"

    before = len(metrics(run))
    with started(launch(*given, "--out", str(run), "--resume"), cluster, tmp_path) as process:
        wait_for(run, before + 2, process)
        os.kill(ranks(run)[1], signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert "rank 1 " in said
    assert "--resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert ranks(run) == {}

    before = len(metrics(run))
    with started(launch(*given, "--out", str(run), "--resume"), cluster, tmp_path) as process:
        wait_for(run, before + 2, process)
        rank = ranks(run)[1]
        status = Path(f"/proc/{rank}/status").read_text("utf-8")
        os.kill(int(status.partition("PPid:")[2].split()[0]), signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert said.splitlines()[-1].startswith("launch: Ray has lost a worker (")
    assert said.splitlines()[-1].endswith("Look at ray status, then continue with --resume")
    assert "Traceback" not in said
    until = time.monotonic() + 60
    while ranks(run):
        assert time.monotonic() < until
        time.sleep(0.1)

    code, _, said = ended(launch(*given, "--out", str(run), "--resume"), cluster, tmp_path)
    assert code == 0, said
    assert worlds.hashes(run) == worlds.hashes(tmp_path / "whole")


def test_errors_of_the_trainer_and_of_the_cluster_are_one_line(
    files: worlds.Files, cluster: dict[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Also in a cluster that the command starts for itself and ends."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    given = [*options(files, "sft"), "--out", "run"]
    code, _, said = ended(launch(*given), environment | {"RAY_ADDRESS": "local"}, tmp_path)
    lines = said.splitlines()
    assert (code, len(lines)) == (2, 2), said
    assert lines[0] == "launch: no Ray cluster runs here, so this command starts one for itself"
    assert lines[1].startswith("run: ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]

    code, _, said = ended(launch(*given, processes=4), cluster, tmp_path)
    assert (code, said) == (
        2, "launch: 4 processes need a CPU each, and the Ray cluster has 3. Lower --processes, or add machines\n"
    )  # fmt: skip
