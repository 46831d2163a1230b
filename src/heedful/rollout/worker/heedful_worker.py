"""Weights through a process group, between the trainer and the workers of a vLLM server.

vLLM imports this file in its own environment, which has no heedful: nothing but torch is imported here. Start it with
`--worker-extension-cls heedful_worker.Receiver` and this folder on PYTHONPATH. The trainer is rank 0 of the group.

Weights travel in buckets. A bucket is one tensor of bytes with several weights, each at a multiple of ALIGNED bytes.
"""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch

dist: Any = importlib.import_module("torch.distributed")  # its types do not name all of it
ALIGNED = 16
WeightEntry = tuple[str, str, list[int]]
"""Name, precision such as "float32", shape."""


def address_towards(host: str, port: int) -> str:
    """The address of this machine that a host sees."""
    with socket.create_connection((host, port), timeout=30) as connection:
        return str(connection.getsockname()[0])


def open_store(host: str, port: int, seconds: float, *, main: bool) -> Any:
    """Where the members of a group find each other. `main`: it is opened here, with port 0 on any free port."""
    return dist.TCPStore(host, port, is_master=main, wait_for_workers=False, timeout=timedelta(seconds=seconds))


def open_group(store: Any, rank: int, size: int, backend: str, seconds: float, address: str) -> Any:
    """A process group of its own, next to that of vLLM. Waits for the others, at most `seconds`."""
    if backend == "nccl":
        return dist.ProcessGroupNCCL(store, rank, size, timedelta(seconds=seconds))
    options = dist.ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=seconds)
    options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
    return dist.ProcessGroupGloo(store, rank, size, options)


def broadcast(group: Any, tensor: torch.Tensor, seconds: float) -> None:
    """Send a tensor from rank 0 to all. Raises RuntimeError if that takes longer than `seconds`."""
    options = dist.BroadcastOptions()
    options.rootRank = options.rootTensor = 0
    group.broadcast([tensor], options).wait(timedelta(seconds=seconds))
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def places(bucket: Sequence[WeightEntry]) -> tuple[list[tuple[int, int]], int]:
    """([start, stop) of each weight, bytes of the bucket)."""
    found, at = [], 0
    for _, dtype, shape in bucket:
        count = torch.Size(shape).numel() * getattr(torch, dtype).itemsize
        found.append((at, at + count))
        at += -(-count // ALIGNED) * ALIGNED
    return found, at


class Receiver:
    """What is added to vLLM's worker. Arguments are JSON, because vLLM passes text alone."""

    device: torch.device
    rank: int

    def heedful_about(self) -> dict[str, Any]:
        """Where this worker is."""
        return {"rank": self.rank, "device": self.device.type}

    def heedful_join(self, plan: str) -> None:
        """Join the group of the trainer, in place of an earlier one."""
        given = json.loads(plan)
        address = address_towards(given["host"], given["port"])
        store = open_store(given["host"], given["port"], given["seconds"], main=False)
        where = given["size"], given["backend"], given["seconds"], address
        self._heedful_group = open_group(store, 1 + self.rank, *where)
        self._heedful_store, self._heedful_seconds = store, float(given["seconds"])

    def heedful_receive(self, plan: str) -> None:
        """Replace the weights by those that the trainer sends now."""
        weights = self._heedful_weights(json.loads(plan))
        self.reload_weights(weights_iterator=weights)  # type: ignore[attr-defined]
        for _ in weights:  # what the model does not have is sent all the same
            pass

    def _heedful_weights(self, buckets: list[list[WeightEntry]]) -> Iterator[tuple[str, torch.Tensor]]:
        for bucket in buckets:
            spans, size = places(bucket)
            held = torch.empty(size, dtype=torch.uint8, device=self.device)
            broadcast(self._heedful_group, held, self._heedful_seconds)
            for (name, dtype, shape), (start, stop) in zip(bucket, spans, strict=True):
                yield name, held[start:stop].view(getattr(torch, dtype)).view(shape)
