"""Inference servers that a launch starts on this machine: their commands, their logs, their end."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heedful.config import UserError
from heedful.launch import machine
from heedful.launch.processes import Child, Say, start, stop

WORKER = Path(__file__).parents[1] / "rollout" / "worker"
"""The folder of what vLLM imports of ours (`engine.sync` = group)."""
READY = 900.0
"""Seconds that a server gets to load its model."""
HERE = "127.0.0.1"


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
    folder: str | None = None
    """Through which they get weights: "" = this machine's folder for temporary files. None: through no folder."""

    sleep: bool = False
    """Whether they share the trainer's GPUs and sleep while it learns. They do so from the start."""

    def settings(self, host: str = HERE) -> list[str]:
        """The options of the trainer that name them."""
        urls = [self.url(number, host) for number in range(self.count)]
        return ["--engine.kind", self.kind, *(part for url in urls for part in ("--engine.urls", url))]

    def url(self, number: int, host: str) -> str:
        """The address of one server."""
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port + number}"

    def command(self, port: int, host: str) -> list[str]:
        """The command of a server, as docs/engines.md shows it. It listens at one address of this machine alone."""
        at = ["--host", host, "--port", str(port)]
        if self.kind == "sglang":
            return [self.python, "-m", "sglang.launch_server", "--model-path", self.model, *at, *self.options]
        adapters = ["--enable-lora", "--max-lora-rank", str(self.lora_rank)] if self.lora_rank else []
        adapters += ["--enable-sleep-mode"] if self.sleep else []
        return [
            self.python, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model, "--served-model-name",
            "policy", "--enable-scale-out", "--logprobs-mode", "processed_logprobs", *at,
            "--worker-extension-cls", "heedful_worker.Receiver", *adapters, *self.options,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The variables of a server. Our own path is not that of its Python."""
        if self.kind == "sglang":
            return {"PYTHONPATH": ""}
        adapters = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if self.lora_rank else {}
        return {"VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": str(WORKER), **adapters}


@dataclass
class _Running:
    """Servers that answer. `look` says once which of them has ended: the trainer gives its rows to the others."""

    children: Sequence[Child]
    say: Say
    gone: set[str] = field(default_factory=set)

    def look(self) -> None:
        """See whether all are still there."""
        for server in self.children:
            if server.code is not None and server.name not in self.gone:
                self.gone.add(server.name)
                self.say(f"launch: {server.name} ended with code {server.code}. Look at {server.log}")


@contextlib.contextmanager
def running(
    servers: Servers, gpus: Sequence[str], logs: Path, say: Say, host: str = HERE
) -> Iterator[Callable[[], None]]:
    """Start a server for each of `gpus` ("" = on the processor) and wait until all answer. At the end they stop.

    Gives what is called again and again while the trainer runs. Raises UserError if a server ends before it answers.
    """
    children = []
    for number, gpu in enumerate(gpus):
        port = machine.free_port(servers.port + number, host)
        env = servers.environment() | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
        log = logs / f"server-{number}.log"
        children.append(Child(f"server {number}", servers.command(port, host), log, env))
    try:
        for child in children:
            start(child)
        where = "" if any(gpus) else " on the processor, since this machine shows no GPU"
        say(f"launch: {servers.kind} loads {servers.model}{where}. Its log is {children[0].log}")
        _wait_for(children, servers, host)
        for number in range(len(children)) if servers.sleep else ():
            _let_sleep(servers.url(number, host), children[number])
        yield _Running(children, say).look
    finally:
        stop(children)


def _wait_for(children: Sequence[Child], servers: Servers, host: str) -> None:
    """Wait until every server answers. Raises UserError if one ends before, or takes too long."""
    deadline = time.monotonic() + READY
    for number, server in enumerate(children):
        while not _answers(f"{servers.url(number, host)}/health"):
            if server.code is not None:
                said = server.last_line() or f"exit code {server.code}"
                raise UserError(f"launch: {server.name} ended before it was ready ({said}). Look at {server.log}")
            if time.monotonic() > deadline:
                raise UserError(f"launch: {server.name} was not ready after {READY:.0f} seconds. Look at {server.log}")
            time.sleep(0.5)


def _let_sleep(url: str, server: Child) -> None:
    """The trainer loads its models next."""
    try:
        urllib.request.urlopen(urllib.request.Request(f"{url}/sleep?level=1", b"{}"), timeout=READY).close()
    except (urllib.error.URLError, OSError) as error:
        raise UserError(f"launch: {server.name} does not sleep ({error}). Look at {server.log}") from None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
