"""The two servers of a project folder as processes of their own: `heedful serve`, and the labelling app."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heedful.config import UserError

START_SECONDS = 180
STOP_SECONDS = 40
MODEL = "demo"
"""Name of the served model."""
_ADDRESS = re.compile(r"heedful is at http://[^:/]+:(\d+)")


@contextmanager
def serving(folder: Path, sft: Path) -> Iterator[str]:
    """The address of a server of the promoted model, or of the SFT model before any promotion."""
    arguments = ["serve", "--model", f"{MODEL}={sft}", "--folder", str(folder), "--port", "0"]
    with _running([*arguments, "--limits.requests-a-minute", "0"], folder / "serve.log") as address:
        yield address


@contextmanager
def labelling(folder: Path) -> Iterator[str]:
    """The address of the labelling app of a folder."""
    arguments = ["label", "--db", str(folder / "heedful.db"), "--folder", str(folder), "--port", "0"]
    with _running(arguments, folder / "label.log") as address:
        yield address


@contextmanager
def _running(arguments: list[str], log: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "heedful.reproduce.rounds.child", *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that a server prints when it listens. Raises UserError if it ends first."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = _ADDRESS.search(log.read_text("utf-8", errors="replace"))
        if found is not None:
            return f"http://127.0.0.1:{found[1]}"
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise UserError(f"{log}: the server did not start. Read its last lines")
