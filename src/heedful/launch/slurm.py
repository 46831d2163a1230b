"""An sbatch file that runs a heedful command on several machines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SlurmJob:
    """What a job asks for."""

    nodes: int
    gpus: int
    """On each node. 0 = none."""
    processes: int
    """On each node."""
    hours: float
    logs: Path


WARNED = 120
"""Seconds before its end in which a job saves a checkpoint. torchrun would kill a process 30 seconds after a signal."""


def script(arguments: Sequence[str], batch: SlurmJob, out: str | None, folder: Path) -> str:
    """The text of the file. `out`: the folder of the run, which a job that Slurm starts again continues.

    `folder`: where the job runs, wherever it is submitted. Slurm opens the log before it runs a line of the file.
    """
    command = shlex.join(arguments)
    minutes = max(1, round(batch.hours * 60))
    gpus = [f"#SBATCH --gpus-per-node={batch.gpus}"] if batch.gpus else []
    resume = [f"if [ -e {shlex.quote(out + '/manifest.json')} ]; then resume=--resume; fi"] if out else []
    lines = [
        "#!/bin/bash",
        "# Written by heedful launch --slurm. Start it with: sbatch FILE",
        f"#SBATCH --job-name=heedful-{arguments[0]}",
        f"#SBATCH --nodes={batch.nodes}",
        "#SBATCH --ntasks-per-node=1",
        *gpus,
        f"#SBATCH --time={minutes // 60:02}:{minutes % 60:02}:00",
        f"#SBATCH --chdir={shlex.quote(str(folder))}",
        f"#SBATCH --output={shlex.quote(f'{batch.logs}/%x-%j.log')}",
        "#SBATCH --open-mode=append",
        "# Two minutes before the end the run saves a checkpoint, and a job that is started again goes on from it",
        f"#SBATCH --signal=TERM@{WARNED}",
        "#SBATCH --requeue",
        "set -euo pipefail",
        f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={WARNED - 10}",
        f"mkdir -p {shlex.quote(str(batch.logs))}",
        "# All nodes meet at the first one, on a port that follows from the number of the job",
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "port=$((20000 + SLURM_JOB_ID % 20000))",
        'resume=""',
        *resume,
        f"srun --kill-on-bad-exit=1 --output={shlex.quote(f'{batch.logs}/%x-%j-node-%t.log')} \\",
        f"    {shlex.quote(sys.executable)} -m torch.distributed.run \\",
        f'    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node={batch.processes} --max-restarts=0 \\',
        '    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:$port" \\',
        f"    -m heedful {command} $resume",
    ]
    return "\n".join(lines) + "\n"
