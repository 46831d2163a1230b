"""GPUs by name: memory, speed, and what of the speed a run is assumed to reach."""

from __future__ import annotations

import re
from dataclasses import dataclass

from heedful.config import UserError

GIB = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """One card. Data sheets of NVIDIA: bfloat16 without sparsity, memory as nvidia-smi shows it."""

    name: str
    memory: int
    """Bytes."""
    flops: float
    """Multiplications and additions a second in bfloat16. 0 = not known, then no time is estimated."""
    bandwidth: float
    """Bytes a second from its memory."""
    link: float
    """Bytes a second to and from another card of the machine, in one direction."""


def _gpu(name: str, gib: float, tera: float, terabytes: float, gigabytes: float) -> Gpu:
    return Gpu(name, int(gib * GIB), tera * 1e12, terabytes * 1e12, gigabytes * 1e9)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("b200-192", 179.1, 2250, 8.0, 900),
        _gpu("h200-141", 139.8, 989, 4.8, 450),
        _gpu("h100-80", 79.1, 989, 3.35, 450),
        _gpu("h100-pcie-80", 79.2, 756, 2.0, 64),
        _gpu("a100-80", 79.2, 312, 2.04, 300),
        _gpu("a100-40", 39.4, 312, 1.56, 300),
        _gpu("l40s-48", 44.4, 362, 0.864, 32),
        _gpu("a6000-48", 47.5, 155, 0.768, 32),
        _gpu("rtx-4090-24", 23.5, 165, 1.008, 32),
        _gpu("rtx-3090-24", 23.5, 71, 0.936, 32),
        _gpu("l4-24", 22.0, 121, 0.3, 32),
        _gpu("t4-16", 14.6, 65, 0.32, 16),
    )
}


def find(name: str) -> Gpu:
    """The card of this name, or of so many GiB of memory: 24 or 24GiB. Raises UserError for any other."""
    if name.lower() in GPUS:
        return GPUS[name.lower()]
    size = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\s*GiB)?", name, re.IGNORECASE)
    if size and 0 < float(size[1]) < 100_000:
        return Gpu(f"{float(size[1]):g} GiB", int(float(size[1]) * GIB), 0.0, 0.0, 0.0)
    raise UserError(f"--gpu {name}: not known. Give its memory in GiB, such as 24, or one of {', '.join(GPUS)}")
