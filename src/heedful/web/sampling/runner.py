"""The process of one sampling job: `python -m heedful.web.sampling.runner PLACE`.

It runs `heedful sample` for each model: those behind an address at the same time, those on this machine one after the
other. Then it puts the answers of all models to a prompt into one row. A file `stop` in PLACE ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Completions, Prompt, as_text
from heedful.endpoints import client
from heedful.endpoints.cache import FOLDER
from heedful.files import Lock, read_json
from heedful.web.sampling.jobs import cache, lock_file

PAUSE = 0.2  # seconds between two looks at the processes
CHUNK = 16  # prompts between two lines of progress


@dataclass
class Process:
    """One model's `heedful sample`."""

    out: Path
    command: list[str]
    remote: bool
    running: subprocess.Popen[bytes] | None = None

    @property
    def ended(self) -> Path:
        """A file with the exit code of a process that failed."""
        return self.out.with_suffix(".ended")

    def start(self) -> None:
        self.ended.unlink(missing_ok=True)
        with open(self.out.with_suffix(".log"), "wb") as log:
            self.running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.out.parent,
                env=os.environ | {FOLDER: str(cache(self.out.parent))},
            )  # fmt: skip

    def stop(self) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.terminate()
            self.running.wait()

    def is_over(self) -> bool:
        code = self.running.poll() if self.running else None
        if code:
            self.ended.write_text(str(code))
        return code is not None


def run(place: Path) -> None:
    """Work on a job until it is done or stopped. Raises UserError if another process does."""
    lock = _lock(place)
    try:
        processes = list(_processes(place, read_json(place / "job.json")))
        waiting = [process for process in processes if not process.out.exists()]
        remote = [[process] for process in waiting if process.remote]
        _work(place, [*remote, [process for process in waiting if not process.remote]])
        if not any(process.ended.exists() for process in processes):
            merge(place, [process.out for process in processes])
            shutil.rmtree(cache(place), ignore_errors=True)
    finally:
        lock.release()


def _lock(place: Path) -> Lock:
    """The job's lock. A server that looks whether the job is running holds it for a moment."""
    for left in reversed(range(10)):
        try:
            return Lock(lock_file(place), "another process works on this job")
        except UserError:
            if not left:
                raise
            time.sleep(PAUSE)
    raise AssertionError


def _processes(place: Path, about: dict[str, Any]) -> Iterator[Process]:
    for number, ref in enumerate(about["models"].values(), 1):
        out = place / f"part-{number}.jsonl"
        command = [sys.executable, "-m", "heedful", "sample", "--model", ref, "--prompts", str(place / "prompts.jsonl")]
        command += ["-k", str(about["k"]), "--seed", str(about["seed"]), "--out", str(out)]
        command += ["--set", f"generation.max_new_tokens={about['max_new_tokens']}"]
        command += ["--set", f"generation.temperature={about['temperature']}"]
        remote = client.is_address(ref)
        if not remote:
            command += ["--set", "skip_long=true", "--set", f"chunk={CHUNK}"]
        command += ["--resume"] if out.with_name(f".{out.name}.partial.json").exists() else []
        yield Process(out, command, remote)


def _work(place: Path, queues: list[list[Process]]) -> None:
    """Run the processes of each queue one after the other, all queues at the same time."""
    try:
        while any(queues):
            for queue in queues:
                if queue and queue[0].running is None:
                    queue[0].start()
                elif queue and queue[0].is_over():
                    queue.pop(0)
            if (place / "stop").exists():
                raise UserError("stopped")
            time.sleep(PAUSE)
    finally:
        for queue in queues:
            for process in queue[:1]:
                process.stop()


def merge(place: Path, parts: list[Path]) -> None:
    """Write completions.jsonl: a row for each prompt with the answers of every model that has some."""
    names = list(read_json(place / "job.json")["models"])
    answers: dict[str, list[tuple[str, Completions]]] = {}
    for name, path in zip(names, parts, strict=True):
        for row in formats.read(path, Completions):
            answers.setdefault(as_text(row.prompt), []).append((name, row))
    rows = []
    for prompt in formats.read(place / "prompts.jsonl", Prompt):
        found = answers.get(as_text(prompt.prompt), [])
        made: dict[str, Any] = {
            "completions": [text for _, row in found for text in row.completions],
            "models": [name for name, row in found for _ in row.completions],
            "finish": [how for _, row in found for how in row.finish or []],
        }
        if len(names) == 1:  # ids of several tokenizers do not mix
            made["token_ids"] = next((row.token_ids for _, row in found), None)
        if len(made["completions"]) >= 2:
            rows.append(Completions(**prompt.row() | made))
    if not rows:
        raise UserError("no prompt has two answers")
    formats.write(place / "completions.jsonl", rows)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no process is left behind
    try:
        run(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
