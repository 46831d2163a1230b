"""A server at a port, with its own thread and event loop, for clients that need a real connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

import tiny
from heedful.configs.serve import ServeLimits
from heedful.configs.shared import Compute
from heedful.rollout.engine import open_engine
from heedful.serve.local import LocalBackend
from heedful.web.connections import Connections
from heedful.web.incidents import Incidents


@contextmanager
def running(app: Any, **options: Any) -> Iterator[str]:
    """The address of a server while it runs."""
    listening = socket.create_server(("127.0.0.1", 0))
    state = getattr(app, "state", None)
    incidents: Incidents = state.incidents if isinstance(app, FastAPI) and state is not None else Incidents()
    protocol = Connections({}, incidents, 4096, of_an_address=4096).protocol()
    config = uvicorn.Config(app, http=protocol, log_level="error", timeout_graceful_shutdown=2, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    listening.close()
    assert not thread.is_alive()


def wait_for(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


def load(path: str) -> Any:
    """A tiny model: "FAMILY", "FAMILY template", and a seed at the end. Its context is 256 tokens."""
    family, *more = path.split()
    seed = int(more[-1]) if more and more[-1].isdigit() else 0
    tokenizer = tiny.tokenizer(template="template" in more, adds_bos="bos" in more)
    with torch.random.fork_rng():
        model = tiny.policy(family, seed=seed, context=256)
    return open_engine(model, tokenizer, Compute()), tokenizer


def local(path: str = "llama", threads: int = 1, **limits: Any) -> LocalBackend:
    return LocalBackend(path, load, ServeLimits(**limits), threads)
