"""The processes of one launch: started together, ended together, each with a log of its own."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from heedful.config import UserError
from heedful.errors import OWN_LOG

GRACE = 20.0
"""Seconds that the other ranks get to end by themselves once one has failed, and servers to stop."""
LINE = 300
"""Letters of another process's last line that are said."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class ProcessPlace:
    """Where a process is among all."""

    rank: int
    local_rank: int
    size: int
    local_size: int
    address: str
    port: int

    def environment(self) -> dict[str, str]:
        """What torchrun would set. And: the standard error of each process is its own log."""
        found = {
            OWN_LOG: 1, "RANK": self.rank, "LOCAL_RANK": self.local_rank, "WORLD_SIZE": self.size,
            "LOCAL_WORLD_SIZE": self.local_size, "MASTER_ADDR": self.address, "MASTER_PORT": self.port,
        }  # fmt: skip
        return {name: str(value) for name, value in found.items()}


@dataclass
class Child:
    """A process with its log. `shown`: its output also goes to the terminal, or to the two `targets`."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    shown: bool = False
    targets: tuple[Any, Any] | None = None
    cwd: str | None = None
    prepare: Callable[[], None] | None = None
    """Called in the new process before the command."""
    process: subprocess.Popen[bytes] | None = None
    copies: list[threading.Thread] = field(default_factory=list)
    files: list[IO[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C reaches it through us alone."""
        file = self.log.open("ab")
        pipe: Any = subprocess.PIPE if self.shown else file
        try:
            self.process = subprocess.Popen(
                list(self.command), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe if self.shown else file,
                env={**os.environ, **self.env}, cwd=self.cwd, preexec_fn=self.prepare, start_new_session=True,
            )  # fmt: skip
        except OSError:
            file.close()
            raise
        if not self.shown:
            file.close()
            return
        out, err = self.targets or (sys.stdout, sys.stderr)
        for source, target in ((self.process.stdout, out), (self.process.stderr, err)):
            copy = threading.Thread(target=_copy, args=(source, target, file), daemon=True)
            copy.start()
            self.copies.append(copy)
            self.files += [source] if source is not None else []
        self.files.append(file)

    def close(self) -> None:
        """Copy the rest of its output, once it has ended."""
        for copy in self.copies:
            copy.join(5)
        for file in self.files:
            file.close()
        self.copies, self.files = [], []

    @property
    def code(self) -> int | None:
        """Its exit code, -n after signal n. None while it runs."""
        return self.process.poll() if self.process is not None else None

    def send(self, number: int) -> None:
        """Send a signal to it and to what it has started."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def last_line(self) -> str:
        """The last line of its log that says something, cut where it is long."""
        lines = self.end_of_log().splitlines()
        return next((line.strip()[:LINE] for line in reversed(lines) if line.strip()), "")

    def end_of_log(self) -> str:
        """The last 20,000 bytes of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-20_000:].decode("utf-8", "replace")
        return ""


def _copy(source: IO[bytes] | None, shown: Any, log: IO[bytes]) -> None:
    """Copy what a process writes: to the terminal as it comes, to its log in whole lines.

    Its two streams share the log, and each writes a line in parts.
    """
    assert source is not None
    decoder, begun = codecs.getincrementaldecoder("utf-8")("replace"), b""
    while part := os.read(source.fileno(), 65_536):
        lines, end, rest = part.rpartition(b"\n")
        if end:
            log.write(begun + lines + end)
            log.flush()
            begun = b""
        begun += rest
        with contextlib.suppress(OSError, ValueError):  # nobody reads the terminal
            shown.write(decoder.decode(part))
            shown.flush()
    log.write(begun)
    log.flush()


@contextlib.contextmanager
def forwarding(count: int, send: Callable[[int], None], say: Say) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM are sent to `count` processes, which save and end. What we do ourselves goes on."""

    def forward(number: int, frame: FrameType | None) -> None:
        say(f"launch: {signal.Signals(number).name} to {count} process{'es' if count > 1 else ''}")
        send(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start(child: Child) -> None:
    """Start a process. Raises UserError if its program does not run."""
    try:
        child.start()
    except OSError as error:
        raise UserError(f"launch: {child.command[0]}: {error.strerror or error}. Check the path") from None


def nothing() -> None:
    """What is called again and again where nobody looks at anything."""


def wait(ranks: Sequence[Child], look: Callable[[], None] = nothing) -> Child | None:
    """Wait until all ranks have ended. If one fails, the others are ended after `GRACE` seconds: the first that failed.

    `look` is called again and again.
    """
    failed: Child | None = None
    deadline = 0.0
    while any(child.code is None for child in ranks):
        if failed is None:
            failed = next((child for child in ranks if child.code), None)
            deadline = time.monotonic() + GRACE
        elif time.monotonic() > deadline:
            for child in ranks:
                if child.code is None:
                    kill(child)
        look()
        time.sleep(0.1)
    return failed or next((child for child in ranks if child.code), None)


def send(children: Sequence[Child], number: int) -> None:
    """Send a signal to processes."""
    for child in children:
        child.send(number)


def kill(child: Child) -> None:
    """End a process that does not end by itself."""
    child.send(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def stop(children: Sequence[Child]) -> None:
    """End processes: politely, then not."""
    running = [child for child in children if child.process is not None and child.code is None]
    for child in running:
        child.send(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(child.code is None for child in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in running:
        if child.code is None and hasattr(signal, "SIGKILL"):
            child.send(signal.SIGKILL)
            assert child.process is not None
            child.process.wait()
    for child in children:
        child.close()


def ended(name: str, code: int, log: Path, say: Say, line: str = "", shown: str = "") -> int:
    """The exit code of a launch after the process that failed first: its own, or 2 if a signal killed it.

    `line`: the last one of its log. It is said where the terminal has not `shown` it.
    """
    if code >= 0:
        if line and line not in shown:
            say(f"launch: {name} ended with code {code}: {line}")
        return code
    say(
        f"launch: {name} was killed by signal {-code}, so the others were stopped. The last checkpoint is kept. "
        f"Look at {log}, then continue with --resume"
    )
    return 2
