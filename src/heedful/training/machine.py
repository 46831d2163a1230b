"""How much memory this machine has left for one process of a stage."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from heedful.training import launcher

GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60


def free(device: torch.device) -> int:
    """Bytes that this process can still take: on its GPU, or its share of what the machine or its container has."""
    if device.type == "cuda":
        there, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(there + reserved)
    here = min(int(psutil.virtual_memory().available), container_free())
    return here // launcher.on_this_machine()


def container_free(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes below the tightest memory limit of the control groups of this process. A large number without any.

    Pages of files do not count as used: the kernel drops them where memory is short.
    """
    left = _NO_LIMIT
    for folder in _folders(groups, own):
        limit = _number(folder, "memory.max") or _number(folder, "memory.limit_in_bytes")
        if limit is None or limit >= _NO_LIMIT:
            continue
        used = _number(folder, "memory.current") or _number(folder, "memory.usage_in_bytes") or 0
        left = min(left, limit - max(0, used - _of_files(folder)))
    return max(0, left)


def _folders(groups: Path, own: Path) -> list[Path]:
    """The control groups of this process, from its own up to the root."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    found: list[Path] = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        root = groups / "memory" if "memory" in controllers.split(",") else groups
        if controllers and root == groups:
            continue
        here = root / path.strip("/")
        found += [one for one in (here, *here.parents) if one.is_relative_to(root)]
    return found


def _number(folder: Path, name: str) -> int | None:
    try:
        text = (folder / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _of_files(folder: Path) -> int:
    try:
        rows = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        counts = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    except (OSError, ValueError):
        return 0
    for prefix in ("", "total_"):
        if f"{prefix}inactive_file" in counts:
            return counts[f"{prefix}inactive_file"] + counts.get(f"{prefix}active_file", 0)
    return 0
