"""The sbatch file, line by line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heedful.cli import main

EXPECTED = r"""#!/bin/bash
# Written by heedful launch --slurm. Start it with: sbatch FILE
#SBATCH --job-name=heedful-ppo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --time=36:30:00
#SBATCH --chdir='FOLDER/a b'
#SBATCH --output='my logs/%x-%j.log'
#SBATCH --open-mode=append
# Two minutes before the end the run saves a checkpoint, and a job that is started again goes on from it
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110
mkdir -p 'my logs'
# All nodes meet at the first one, on a port that follows from the number of the job
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
resume=""
if [ -e 'my runs/ppo/manifest.json' ]; then resume=--resume; fi
srun --kill-on-bad-exit=1 --output='my logs/%x-%j-node-%t.log' \
    PYTHON -m torch.distributed.run \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node=4 --max-restarts=0 \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:$port" \
    -m heedful ppo --config ppo.toml --out 'my runs/ppo' $resume
"""
GIVEN = ["--", "ppo", "--config", "ppo.toml", "--out", "my runs/ppo"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given, with the settings."""
    (found := tmp_path / "a b").mkdir()
    (found / "ppo.toml").write_text('policy = "p"\nreward = ["r"]\nprompts = "q"\n', encoding="utf-8")
    monkeypatch.chdir(found)
    return found


def launch(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main(["launch", *arguments])
    return end.value.code


def test_the_file_line_by_line(tmp_path: Path, folder: Path) -> None:
    """Slurm opens the job's log before the first line runs, so the folder is there."""
    file = tmp_path / "job.sbatch"
    given = ["--nodes", "2", "--gpus", "4", "--hours", "36.5", "--logs", "my logs"]
    assert not launch("--slurm", str(file), *given, *GIVEN)
    assert file.read_text("utf-8") == EXPECTED.replace("PYTHON", sys.executable).replace("FOLDER", str(tmp_path))
    assert (folder / "my logs").is_dir()
    assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0


def test_the_file_starts_one_process_on_each_node_with_the_same_meeting_place(tmp_path: Path) -> None:
    """The file is run, with stand-ins for Slurm's commands and for torchrun that show what they get."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    file, out = tmp_path / "job.sbatch", tmp_path / "run"
    out.mkdir()
    (out / "manifest.json").touch()
    given = ["--", "sft", "--model", "m", "--data", "a b.jsonl", "--out", str(out)]
    assert not launch("--slurm", str(file), "--nodes", "2", "--gpus", "2", "--logs", str(tmp_path / "logs"), *given)
    for name, body in {"scontrol": 'printf "node-7\\nnode-9\\n"', "srun": 'printf "%s\\n" "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node-[7,9]", "SLURM_JOB_ID": "41007"}
    done = subprocess.run(
        ["bash", str(file)], env=env | {"SLURM_JOB_NUM_NODES": "2"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "--kill-on-bad-exit=1", f"--output={tmp_path}/logs/%x-%j-node-%t.log", sys.executable, "-m",
        "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--max-restarts=0", "--rdzv-id=41007",
        "--rdzv-backend=c10d", "--rdzv-endpoint=node-7:21007", "-m", "heedful", "sft", "--model", "m", "--data",
        "a b.jsonl", "--out", str(out), "--resume",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--servers", "1"], "--servers: not with --slurm. Start servers as jobs of their own"),
        (["--port", "4000"], "--port: not with --slurm, where it follows from the number of the job"),
        (["--gpus", "2", "--processes", "4"], "--processes 4: each needs a GPU, and --gpus is 2. Make them equal"),
        (["--hours", "0.05"], "Invalid value for '--hours': 0.05 is not in the range 0.1<=x<=10000"),
        (["--hours", "nan"], "Invalid value for '--hours': nan is not a finite number"),
        (["--", "ppo", "--epochs", "few"], "the options: 'epochs': must be a whole number"),
    ],
)
def test_what_the_file_cannot_say_is_one_line(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*given, *GIVEN[2:]] if "--" in given else [*given, *GIVEN]
    assert launch("--slurm", str(tmp_path / "job"), *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert not (tmp_path / "job").exists()
    assert not Path("logs").exists()


def test_an_existing_file_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job"
    file.write_text("mine", encoding="utf-8")
    assert launch("--slurm", str(file), *GIVEN) == 2
    assert file.read_text("utf-8") == "mine"
    assert launch("--slurm", str(tmp_path / "no" / "job"), *GIVEN) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"--slurm {file}: already exists. Choose another name, or delete it",
        f"--slurm {tmp_path}/no/job: the folder {tmp_path}/no does not exist. Create it, or choose another path",
    ]
    assert not Path("logs").exists()
