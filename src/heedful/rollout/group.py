"""The trainer's side of weights through a process group (`engine.sync = "group"`). The server's: worker/heedful_worker.

Every server has a group of its own, so that a lost one leaves the others alone. A collective can wait for ever where
its other side has failed. So it runs on a thread of its own, HTTP says what became of the server, and both have a
limit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from heedful.config import UserError
from heedful.rollout.dialects import Dialect, ServerCall
from heedful.rollout.worker import heedful_worker
from heedful.rollout.worker.heedful_worker import WeightEntry

BUCKET = 256 << 20
"""Bytes of the weights that travel together. A larger weight travels alone."""
NEEDS = "Start vLLM with --worker-extension-cls heedful_worker.Receiver, and this folder on PYTHONPATH: "


class GroupFailed(Exception):
    """The other side of a process group did not come, or has gone."""


class WeightGroup:
    """A process group of the trainer and the workers of one server."""

    def __init__(self, url: str, call: ServerCall, dialect: Dialect, seconds: float, device: torch.device) -> None:
        self._call, self._dialect, self._seconds = call, dialect, seconds
        workers = dialect.workers(call)
        at = urlsplit(url)
        address = heedful_worker.address_towards(at.hostname or "", at.port or (443 if at.scheme == "https" else 80))
        on_gpus = device.type == "cuda" and {worker["device"] for worker in workers} == {"cuda"}
        self._device, backend = device if on_gpus else torch.device("cpu"), "nccl" if on_gpus else "gloo"
        size, store = 1 + len(workers), heedful_worker.open_store(address, 0, seconds, main=True)
        plan = {"host": address, "port": store.port, "size": size, "backend": backend, "seconds": seconds}
        self._store = store  # it lives as long as the group
        self._group: Any = self._both(
            lambda: heedful_worker.open_group(store, 0, size, backend, seconds, address),
            lambda: dialect.join(call, json.dumps(plan)),
        )

    def send(self, weights: dict[str, Tensor], version: int) -> None:
        """Replace all weights of the server."""
        buckets = in_buckets(weights)
        plan = json.dumps([[entry(name, weights[name]) for name in bucket] for bucket in buckets])

        def broadcast() -> None:
            for bucket in buckets:
                spans, size = heedful_worker.places([entry(name, weights[name]) for name in bucket])
                held = torch.zeros(size, dtype=torch.uint8, device=self._device)
                for name, (start, stop) in zip(bucket, spans, strict=True):
                    held[start:stop].copy_(weights[name].contiguous().view(-1).view(torch.uint8))
                heedful_worker.broadcast(self._group, held, self._seconds)

        self._both(broadcast, lambda: self._dialect.receive(self._call, plan, version))

    def _both(self, collective: Callable[[], Any], request: Callable[[], None]) -> Any:
        """Do something with the group while the server is asked to. Returns what the group's side returns."""
        results: list[Any] = []

        def work() -> None:
            try:
                results.append(collective())
            except (RuntimeError, OSError) as error:
                results.append(error)

        thread = threading.Thread(target=work, name="heedful-weights", daemon=True)
        thread.start()
        request()
        thread.join(self._seconds)
        found = results[0] if results else GroupFailed(f"no end within {self._seconds:g} s")
        if isinstance(found, Exception):
            raise GroupFailed(f"weights by process group: {' '.join(str(found).split())[:200]}")
        return found


def weights_of(model: Any) -> dict[str, Tensor]:
    """The weights of a plain model as its files name them. Tied ones come once."""
    held: dict[str, Tensor] = remove_tied_weights_from_state_dict(model.state_dict(), model)
    return {name: weight.detach() for name, weight in held.items()}


def entry(name: str, weight: Tensor) -> WeightEntry:
    """How a weight is announced."""
    return name, str(weight.dtype).removeprefix("torch."), [*weight.shape]


def in_buckets(weights: dict[str, Tensor]) -> list[list[str]]:
    """Names of neighbouring weights of at most BUCKET bytes together."""
    buckets: list[list[str]] = []
    held = BUCKET
    for name, weight in weights.items():
        size = weight.numel() * weight.element_size()
        if held + size > BUCKET:
            buckets.append([])
            held = 0
        buckets[-1].append(name)
        held += size
    return buckets


def explained(url: str, why: Exception) -> UserError:
    """One line about a server that cannot join."""
    folder = heedful_worker.__file__.rpartition("/")[0]
    return UserError(f"{url}: does not take weights by process group ({why}). {NEEDS}{folder}")
