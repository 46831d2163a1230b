"""The device that a command computes on."""

from __future__ import annotations

import torch

from heedful.config import UserError
from heedful.configs.shared import Compute


def device_of(compute: Compute, local_rank: int = 0) -> torch.device:
    """The device that `compute.device` means for this process of the machine. Raises UserError for a missing GPU."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device = 'cuda' but torch sees no GPU here. Use 'cpu' or 'auto'")
    if compute.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"process {local_rank + 1} of this machine has no GPU of its own, since torch sees "
            f"{torch.cuda.device_count()}. Start as many processes as there are GPUs, or set compute.device = 'cpu'"
        )
    return torch.device("cuda", local_rank)
