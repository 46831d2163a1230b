"""What this machine has: GPUs and free ports. No torch."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from itertools import takewhile

from heedful.config import UserError


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. Empty where there is none."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",") if name.strip()]
        return list(takewhile(lambda name: name != "-1", names))  # CUDA hides what comes after -1
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    shown = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in shown.stdout.splitlines())
    return [str(number) for number in range(count)]


def divided(processes: int | None, servers: int, *, shared: bool = False) -> tuple[int, list[str], list[str]]:
    """(processes of the trainer, their GPUs, those of the servers). Raises UserError if there are too few.

    `shared`: the servers have GPUs of the trainer's processes, which come first.
    Where the machine shows no GPU, all of them compute on the processor, and each server has the GPU "".
    """
    there = gpus()
    if not there:
        return processes or 1, [], servers * [""]
    if shared and (processes or len(there)) <= len(there) and servers <= (processes or len(there)):
        own = there[: processes or len(there)]
        return len(own), own, own[:servers]
    if shared:
        raise UserError(
            f"launch: with engine.sleep each server shares the GPU of a process, and this machine has {len(there)} "
            f"GPU{'s' if len(there) > 1 else ''}. Lower --processes or --servers"
        )
    wanted = processes or len(there) - servers
    if wanted < 1 or wanted + servers > len(there):
        raise UserError(
            f"launch: {max(1, wanted)} process{'es' if wanted > 1 else ''} and {servers} "
            f"server{'s' if servers != 1 else ''} need {max(1, wanted) + servers} GPUs, and this machine has "
            f"{len(there)}. Lower --processes or --servers"
        )
    return wanted, there[:wanted], there[len(there) - servers :]


def free_port(wanted: int | None = None, host: str = "127.0.0.1") -> int:
    """A port of this machine that no process listens on. Raises UserError if that is not the wanted one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, wanted or 0))
        except (OSError, OverflowError):
            raise UserError(f"launch: port {wanted} is taken. Choose another one, or stop what listens there") from None
        return int(tried.getsockname()[1])
