"""What holds for every test: one thread, no network, the same examples each time."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# Before torch or a tokenizer is imported; workers and subprocesses inherit them.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MPLBACKEND="agg",
)

# Numbers are compared to 1e-5 and weights to the last bit, as on the CPU; CUDA_VISIBLE_DEVICES=0 tries a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
from hypothesis import settings

import forks

settings.register_profile("heedful", derandomize=True, deadline=None, database=None, print_blob=False)
settings.load_profile("heedful")

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None, socket.gethostname())


class NetworkTouchedError(RuntimeError):
    """A test tried to leave this machine."""


def _refuse(host: object) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in LOCAL_HOSTS:
        raise NetworkTouchedError(f"a test tried to reach {name!r}; tests use no network")


def _block_network() -> None:
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            _refuse(address[0])
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family != socket.AF_UNIX:
            _refuse(address[0])
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse(host)
        return getaddrinfo(host, *args, **kwargs)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = guarded_getaddrinfo


_block_network()


@pytest.fixture(scope="session", autouse=True)
def own_pragmas() -> tuple[str, ...] | None:
    """Flush nothing to the disk: tests kill processes, which lose nothing that way, and no machine loses its power.

    Returns the pragmas of the product's own databases, for their test. None if no test module has imported the store.
    """
    os.fsync = lambda descriptor: None
    store = sys.modules.get("heedful.feedback.store")
    if store is None:
        return None
    own: tuple[str, ...] = store.PRAGMAS
    store.PRAGMAS = (*own, "synchronous = off")  # type: ignore[attr-defined]
    return own


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A program for `-m MODULE ARGUMENTS` whose commands start without the seconds of their imports."""
    folder = tmp_path_factory.mktemp("python")
    with forks.forking(folder) if hasattr(os, "fork") else nullcontext(Path(sys.executable)) as program:
        yield program
