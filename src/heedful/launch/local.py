"""A launch on this machine: inference servers, the trainer's processes, and their end."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heedful.config import UserError
from heedful.launch import machine
from heedful.launch.processes import Child, ProcessPlace, Say, ended, forwarding, send, stop, wait

HEEDFUL = (sys.executable, "-m", "heedful")
WORKER = Path(__file__).parents[1] / "rollout" / "worker"
"""The folder of what vLLM imports of ours (`engine.sync` = group)."""
READY = 900.0
"""Seconds that a server gets to load its model."""


@dataclass(frozen=True)
class Servers:
    """Inference servers to start. `python` belongs to their own environment."""

    kind: str
    count: int
    python: str
    model: str
    port: int
    lora_rank: int = 0
    """Where above 0, they get adapters of this rank."""
    options: tuple[str, ...] = ()
    """Further options of the server's own command."""


def run(
    arguments: Sequence[str], logs: Path, say: Say, *, processes: int | None = None, servers: Servers | None = None,
    port: int | None = None, program: Sequence[str] = HEEDFUL,
) -> int:  # fmt: skip
    """Run a heedful command in several processes, and servers next to it. Returns the exit code of the trainer.

    `program`: what gets the arguments.
    """
    count, own, others = machine.divided(processes, servers.count if servers is not None else 0)
    meeting = machine.free_port(port)
    logs.mkdir(parents=True, exist_ok=True)
    serving = _servers(servers, others, logs) if servers is not None else []
    command = [*arguments, *_addresses(servers)] if servers is not None else list(arguments)
    ranks = _ranks([*program, *command], count, own, meeting, logs)
    try:
        for server in serving:
            _start(server)
        if servers is not None:
            _wait_for(serving, servers, say)
        with forwarding(count, partial(send, ranks), say):
            for rank in ranks:
                _start(rank)
            gone: set[str] = set()
            failed = wait(ranks, lambda: _look(serving, gone, say))
    finally:
        stop([*ranks, *serving])
    return 0 if failed is None or failed.code is None else ended(failed.name, failed.code, failed.log, say)


def environment(rank: int, count: int, port: int, gpus: Sequence[str]) -> dict[str, str]:
    """What torchrun would set for a process on one machine."""
    found = ProcessPlace(rank, rank, count, count, "127.0.0.1", port).environment()
    names = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return found | names


def _ranks(command: Sequence[str], count: int, gpus: Sequence[str], port: int, logs: Path) -> list[Child]:
    return [
        Child(f"rank {n}", command, logs / f"rank-{n}.log", environment(n, count, port, gpus), shown=n == 0)
        for n in range(count)
    ]


def _servers(servers: Servers, gpus: Sequence[str], logs: Path) -> list[Child]:
    found = []
    for number, gpu in enumerate(gpus):
        port = machine.free_port(servers.port + number)
        env = {"PYTHONPATH": "", **environment_of(servers)}  # our own path is not that of their Python
        env |= {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        log = logs / f"server-{number}.log"
        found.append(Child(f"server {number}", command_of(servers, port), log, env))
    return found


def command_of(servers: Servers, port: int) -> list[str]:
    """The command of a server, as docs/engines.md shows it."""
    if servers.kind == "sglang":
        command = [servers.python, "-m", "sglang.launch_server", "--model-path", servers.model, "--port", str(port)]
        return [*command, *servers.options]
    adapters = ["--enable-lora", "--max-lora-rank", str(servers.lora_rank)] if servers.lora_rank else []
    return [
        servers.python, "-m", "vllm.entrypoints.openai.api_server", "--model", servers.model, "--served-model-name",
        "policy", "--enable-scale-out", "--logprobs-mode", "processed_logprobs", "--port", str(port),
        "--worker-extension-cls", "heedful_worker.Receiver", *adapters, *servers.options,
    ]  # fmt: skip


def environment_of(servers: Servers) -> dict[str, str]:
    """The variables of a server."""
    if servers.kind == "sglang":
        return {}
    adapters = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if servers.lora_rank else {}
    return {"VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": str(WORKER), **adapters}


def _addresses(servers: Servers) -> list[str]:
    urls = [f"http://127.0.0.1:{servers.port + number}" for number in range(servers.count)]
    return ["--engine.kind", servers.kind, *(part for url in urls for part in ("--engine.urls", url))]


def _start(child: Child) -> None:
    try:
        child.start()
    except OSError as error:
        raise UserError(f"launch: {child.command[0]}: {error.strerror or error}. Check the path") from None


def _wait_for(serving: Sequence[Child], servers: Servers, say: Say) -> None:
    """Wait until every server answers. Raises UserError if one ends before, or takes too long."""
    where = "" if machine.gpus() else " on the processor, since this machine shows no GPU"
    say(f"launch: {servers.kind} loads {servers.model}{where}. Its log is {serving[0].log}")
    deadline = time.monotonic() + READY
    for number, server in enumerate(serving):
        while not _answers(f"http://127.0.0.1:{servers.port + number}/health"):
            if server.code is not None:
                said = server.last_line()[:200] or f"exit code {server.code}"
                raise UserError(f"launch: {server.name} ended before it was ready ({said}). Look at {server.log}")
            if time.monotonic() > deadline:
                raise UserError(f"launch: {server.name} was not ready after {READY:.0f} seconds. Look at {server.log}")
            time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _look(serving: Sequence[Child], gone: set[str], say: Say) -> None:
    """Say once which server has ended. The trainer gives its rows to the others."""
    for server in serving:
        if server.code is not None and server.name not in gone:
            gone.add(server.name)
            say(f"launch: {server.name} ended with code {server.code}. Look at {server.log}")
