"""New completions from a run: `heedful sample` as a subprocess, with its files in the project folder.

    FOLDER/samples/PROJECT/NUMBER/   prompts.jsonl, completions.jsonl, job.json, log.txt

The server itself does not import torch. `missing()` says if torch is not installed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass as record
from sqlalchemy.orm import Session

from heedful.config import UserError, install
from heedful.configs import registry
from heedful.data import formats
from heedful.data.records import Prompt, as_text
from heedful.feedback import items
from heedful.feedback.assignment import SHOWN, Hidden
from heedful.files import read_json, write_json
from heedful.runs.manifest import Manifest
from heedful.runs.run import Run

NEEDED = ("torch", "transformers", "tokenizers", "safetensors")


@record(frozen=True, config=SHOWN)
class Job:
    """One job of sampling."""

    number: int
    model: str
    k: int
    prompts: int
    started: datetime
    state: Literal["running", "done", "failed"]
    said: str
    """The last line of its log."""
    completions: Hidden[Path]


def missing() -> str | None:
    """Why this server cannot sample, and what to do. None if it can."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if not absent:
        return None
    return (
        f"Sampling runs a model, and this server is installed without {absent[0]}. Either install the training half"
        f" here ({install('train')}), or run heedful sample on a machine that has it and import its file."
    )


def models(folder: Path) -> list[str]:
    """Finished runs of the project folder that can write, as paths below it, newest first."""
    found = []
    for pattern in ("*/manifest.json", "*/*/manifest.json"):
        for path in folder.glob(pattern):
            run = Run(path.parent, manifest) if (manifest := Manifest.read_or_none(path)) else None
            if run is not None and run.finished and registry.stage(run.manifest.stage).writes_text:
                found.append((path.stat().st_mtime, path.parent.relative_to(folder).as_posix()))
    return [name for _, name in sorted(found, reverse=True)]


def prompts(db: Session, project_id: int, count: int) -> list[Prompt]:
    """The project's different prompts that training may see, the newest first."""
    found: dict[str, Prompt] = {}
    before = None
    while len(found) < count:
        listed = items.listing(db, project_id, purpose="train", before=before, limit=500)
        if not listed:
            break
        for item in listed:
            if item.payload.get("prompt") is not None and item.redacted is None and item.held is None:
                fields = {key: item.payload[key] for key in Prompt.model_fields if key in item.payload}
                prompt = Prompt.model_validate(fields)
                found.setdefault(as_text(prompt.prompt), prompt)
        before = listed[-1].id
    return list(found.values())[:count]


class Sampler:
    """Starts jobs, one at a time. It finds the jobs of earlier servers in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._running: dict[Path, subprocess.Popen[bytes]] = {}

    def start(
        self, project: str, model: str, prompts: Sequence[Prompt], k: int, seed: int, max_new_tokens: int, now: datetime
    ) -> Job:
        """Starts a job. UserError if this server cannot sample, or if a job is running."""
        if (why := missing()) is not None:
            raise UserError(why)
        if model not in models(self.folder):
            raise UserError(f"{model}: not a finished run in this server's folder; choose one from the list")
        if not prompts:
            raise UserError("the project has no prompts; import some first")
        with self._lock:
            if any(process.poll() is None for process in self._running.values()):
                raise UserError("another job is running; wait until it is done")
            home = self.folder / "samples" / project
            number = max((int(path.name) for path in home.glob("[0-9]*")), default=0) + 1
            place = home / str(number)
            formats.write(place / "prompts.jsonl", prompts)
            about = {"model": model, "k": k, "prompts": len(prompts), "started": now.isoformat()}
            write_json(place / "job.json", about)
            command = [sys.executable, "-m", "heedful", "sample", "--model", str(self.folder / model)]
            command += ["--prompts", str(place / "prompts.jsonl"), "-k", str(k), "--seed", str(seed)]
            command += ["--set", f"generation.max_new_tokens={max_new_tokens}", "--set", "skip_long=true"]
            command += ["--out", str(place / "completions.jsonl")]
            with open(place / "log.txt", "wb") as log:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._running[place] = process
        return self._job(place)

    def jobs(self, project: str) -> list[Job]:
        """The jobs of a project, newest first."""
        home = self.folder / "samples" / project
        places = sorted(home.glob("[0-9]*"), key=lambda place: -int(place.name))
        return [self._job(place) for place in places if (place / "job.json").exists()]

    def job(self, project: str, number: int) -> Job:
        place = self.folder / "samples" / project / str(number)
        if not (place / "job.json").exists():
            raise UserError(f"sampling {number}: does not exist")
        return self._job(place)

    def _job(self, place: Path) -> Job:
        about = read_json(place / "job.json")
        process = self._running.get(place)
        finished = (place / "completions.jsonl").exists()
        running = process is not None and process.poll() is None
        log = place / "log.txt"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        said = [line.rpartition("\r")[2] for line in lines if line.strip()]
        return Job(
            number=int(place.name),
            model=about["model"],
            k=about["k"],
            prompts=about["prompts"],
            started=datetime.fromisoformat(about["started"]),
            state="running" if running else "done" if finished else "failed",
            said=said[-1][:300] if said else "",
            completions=place / "completions.jsonl",
        )
