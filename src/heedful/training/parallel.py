"""One process or several under torchrun: the same numbers either way.

Every rank sees the whole global batch, computes its share of the micro-batches with losses divided by the *global* count, and the
gradients are summed. So the number of ranks changes nothing but the order of a sum.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from heedful.config import Config, UserError

Item = TypeVar("Item")


class Compute(Config):
    """Where and how a stage computes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the forward and backward pass; weights and optimiser stay float32."""
    micro_tokens: int = 16_384
    """Padded tokens in one forward pass. Changes memory and speed, never the result."""
    activation_checkpointing: bool = False


@dataclass(frozen=True)
class World:
    """This process among its ranks."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's part of work that all ranks know."""
        return list(items[self.rank :: self.size])

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over ranks in one flat bucket; a rank whose share was empty adds zeros."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in trained])
        dist.all_reduce(flat)
        for parameter, gradient in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def merge(self, mine: list[Item]) -> list[Item]:
        """Undo `share`: every rank gets all items in their first order."""
        if self.size == 1:
            return mine
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, mine)
        return [parts[i % self.size][i // self.size] for i in range(sum(len(part) for part in parts))]

    def broadcast(self, value: Item) -> Item:
        """The main rank's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


@contextlib.contextmanager
def world(compute: Compute) -> Iterator[World]:
    """Join the process group that torchrun announces, or be alone. Leaves it at the end."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device = 'cuda' but torch sees no GPU here; use 'cpu' or 'auto'")
    cuda = compute.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    joined = size > 1 and not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(rank, size, device, getattr(torch, compute.dtype))
    finally:
        if joined:
            dist.destroy_process_group()
