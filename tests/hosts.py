"""Two "hosts" on one machine: network namespaces with a cable between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

NAMES = [f"heedful{os.getpid()}{end}" for end in "ab"]
ADDRESSES = ["10.231.77.1", "10.231.77.2"]


def network(*command: str) -> int:
    """The exit code of ip."""
    return subprocess.run(["ip", *command], capture_output=True, check=False).returncode


def forbidden() -> str:
    """Why there can be no namespaces here. Empty: there can."""
    if shutil.which("ip") is None:
        return "two hosts: this machine has no ip command"
    if network("netns", "add", NAMES[0]) != 0:
        return "two hosts: this machine forbids network namespaces"
    network("netns", "delete", NAMES[0])
    return ""


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Two hosts that reach each other."""
    for name in NAMES:
        assert network("netns", "add", name) == 0
    try:
        there = ["type", "veth", "peer", "name", "cable", "netns", NAMES[1]]
        assert network("link", "add", "cable", "netns", NAMES[0], *there) == 0
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            assert network("-n", name, "address", "add", f"{address}/24", "dev", "cable") == 0
            assert network("-n", name, "link", "set", "lo", "up") == 0
            assert network("-n", name, "link", "set", "cable", "up") == 0
        yield
    finally:
        for number, name in enumerate(NAMES):
            kill(number)
            network("netns", "delete", name)


def cable(state: str) -> None:
    assert network("-n", NAMES[0], "link", "set", "cable", state) == 0


def on(number: int, *command: str) -> list[str]:
    """A command on one of the hosts."""
    return ["ip", "netns", "exec", NAMES[number], *command]


def processes(number: int) -> list[int]:
    """Process ids of all that runs on a host."""
    found = subprocess.run(["ip", "netns", "pids", NAMES[number]], capture_output=True, text=True, check=False)
    return [int(part) for part in found.stdout.split()]


def kill(number: int) -> None:
    """End all processes of a host at once, as a loss of power does."""
    for process in processes(number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
