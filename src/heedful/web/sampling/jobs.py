"""Sampling jobs: new answers of several models to a project's prompts, with their files in the project folder.

    FOLDER/samples/PROJECT/NUMBER/
        job.json             what was asked
        prompts.jsonl
        part-1.jsonl, .log   `heedful sample` of the first model, and so on
        cache/               answers of endpoints, until the job is done
        completions.jsonl    the answers of all models, one row for each prompt

A process of its own (`runner`) works on a job and holds a lock while it lives. So a job goes on without its server, and
every server sees what it is: running, done, or stopped.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass as record
from sqlalchemy.orm import Session

from heedful.config import UserError, install
from heedful.configs import registry
from heedful.data import formats
from heedful.data.records import Prompt, as_text
from heedful.endpoints import client
from heedful.feedback import search
from heedful.feedback.items import MOST_COMPLETIONS
from heedful.feedback.tasks import SHOWN, Hidden
from heedful.files import Lock, read_json, write_json
from heedful.runs.manifest import Manifest, manifest_path
from heedful.runs.run import Run

NEEDED = ("torch", "transformers", "tokenizers", "safetensors")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
PROGRESS = re.compile(r"^sample (\d+)/(\d+)", re.MULTILINE)
MOST_SAID = 300  # characters of a log's last line
NOTES = {
    "prompts_left_out": "prompts without an answer",
    "answered_as": "another model answers there",
    "thoughts_left_out": "answers whose thoughts are left out",
    "remarks": "note",
}  # results of `heedful sample` that the page tells


@record(frozen=True, config=SHOWN)
class ModelJob:
    """One model of a job."""

    model: str
    state: Literal["waiting", "running", "done", "failed"]
    done: int
    """Prompts answered so far."""
    said: str
    """Why it failed, or what there is to know about its answers."""


@record(frozen=True, config=SHOWN)
class Job:
    """One job of sampling."""

    number: int
    k: int
    """Answers of each model to each prompt."""
    prompts: int
    started: datetime
    state: Literal["running", "done", "stopped"]
    parts: list[ModelJob]
    said: str
    """Why the job stopped, if it did not finish."""
    queued: int | None
    """Rankings that were made of it. None: not yet."""
    completions: Hidden[Path]


def missing() -> str | None:
    """Why this server cannot run models itself, and what to do. None if it can."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if not absent:
        return None
    return (
        f"This server is installed without {absent[0]}, so it can only ask models behind an address. To run models"
        f" here, install the training half ({install('train')})."
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
        listed = search.listing(db, project_id, search.ItemFilters(purpose="train"), before=before, limit=500)
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
    """Starts jobs, one at a time for a folder, and tells how they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._ours: dict[Path, subprocess.Popen[bytes]] = {}

    @property
    def _home(self) -> Path:
        return self.folder / "samples"

    def addresses(self) -> list[str]:
        """Addresses that an administrator has sampled from, as `URL#MODEL`, the newest first."""
        path = self._home / "addresses.json"
        return list(read_json(path)) if path.exists() else []

    def start(
        self,
        project: str,
        chosen: Sequence[str],
        prompts: Sequence[Prompt],
        k: int,
        now: datetime,
        *,
        admin: bool,
        settings: dict[str, Any],
    ) -> Job:
        """Start a job. `settings`: seed, max_new_tokens and temperature. UserError if it cannot be done."""
        refs = {model.strip(): self._reference(model.strip(), admin) for model in chosen if model.strip()}
        if not refs:
            raise UserError("choose a run, or name a model")
        if not 2 <= len(refs) * k <= MOST_COMPLETIONS:
            raise UserError(
                f"{len(refs)} x {k} answers to each prompt: people rank 2 to {MOST_COMPLETIONS} at once. Change the"
                " number of models, or of answers of each model"
            )
        if not prompts:
            raise UserError("the project has no prompts. Import some first")
        with self._lock:
            if (running := self._running()) is not None:
                raise UserError(f"another job is running ({running}). Wait until it is done, or stop it")
            number = max((int(path.name) for path in (self._home / project).glob("[0-9]*")), default=0) + 1
            place = self._home / project / str(number)
            formats.write(place / "prompts.jsonl", prompts)
            about = {"models": refs, "k": k, "prompts": len(prompts), "started": now.isoformat(), **settings}
            write_json(place / "job.json", about)
            self._remember([model for model in refs if client.is_address(model)])
            self._run(place)
        return self._job(place)

    def stop(self, project: str, number: int) -> Job:
        """Ask the process of a job to end."""
        place = self._place(project, number)
        if self._is_running(place):
            (place / "stop").touch()
        return self._job(place)

    def resume(self, project: str, number: int) -> Job:
        """Go on with a job that was stopped. What is there stays."""
        place = self._place(project, number)
        with self._lock:
            if (running := self._running()) is not None:
                raise UserError(f"another job is running ({running}). Wait until it is done, or stop it")
            if self._job(place).state == "stopped":
                self._run(place)
        return self._job(place)

    def queued(self, project: str, number: int, count: int) -> None:
        """Note that the answers of a job became `count` rankings."""
        write_json(self._place(project, number) / "queued.json", count)

    def jobs(self, project: str) -> list[Job]:
        """The jobs of a project, newest first."""
        return [self._job(place) for place in self.places(project)]

    def places(self, project: str) -> list[Path]:
        """The folders of the jobs of a project, newest first."""
        places = sorted((self._home / project).glob("[0-9]*"), key=lambda place: -int(place.name))
        return [place for place in places if (place / "job.json").exists()]

    def job(self, project: str, number: int) -> Job:
        return self._job(self._place(project, number))

    def _place(self, project: str, number: int) -> Path:
        place = self._home / project / str(number)
        if not (place / "job.json").exists():
            raise UserError(f"sampling {number}: does not exist")
        return place

    def _reference(self, model: str, admin: bool) -> str:
        """What `heedful sample` gets as its model. UserError if it is none."""
        if client.is_address(model):
            client.address(model)
            urls = {client.address(known).url for known in self.addresses()}
            if not admin and client.address(model).url not in urls:
                raise UserError(
                    f"{model}: a new address. The server sends its key there, so an administrator has to sample from it"
                    " first"
                )
            return model
        if (why := missing()) is not None:
            raise UserError(f"{model}: {why}")
        if model in models(self.folder):
            return str((self.folder / model).resolve())
        if not HUB_NAME.fullmatch(model) or (self.folder / model).exists():
            raise UserError(f"{model}: not a finished run in this server's folder, a hub name, or URL#MODEL")
        return model

    def _remember(self, addresses: list[str]) -> None:
        if addresses:
            write_json(self._home / "addresses.json", list(dict.fromkeys([*addresses, *self.addresses()]))[:20])

    def _run(self, place: Path) -> None:
        """Start the process of a job. It outlives this server."""
        (place / "stop").unlink(missing_ok=True)
        with open(place / "runner.log", "wb") as log:
            self._ours[place] = subprocess.Popen(
                [sys.executable, "-m", "heedful.web.sampling.runner", str(place.resolve())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _running(self) -> str | None:
        """The job that is running in this folder, of any project and from any server."""
        for path in self._home.glob("*/*/job.json"):
            if self._is_running(path.parent):
                return f"sampling {path.parent.name} of {path.parent.parent.name}"
        return None

    def _is_running(self, place: Path) -> bool:
        process = self._ours.get(place)  # not the last word: another server may have resumed the job
        if process is not None and process.poll() is None:
            return True
        if not lock_file(place).exists():
            return False
        try:
            Lock(lock_file(place), "").release()
        except UserError:
            return True
        return False

    def _job(self, place: Path) -> Job:
        about = read_json(place / "job.json")
        running, finished = self._is_running(place), (place / "completions.jsonl").exists()
        parts = [
            _part(place / f"part-{number}.jsonl", model, about["prompts"], running)
            for number, model in enumerate(about["models"], 1)
        ]
        queued = place / "queued.json"
        return Job(
            number=int(place.name),
            k=about["k"],
            prompts=about["prompts"],
            started=datetime.fromisoformat(about["started"]),
            state="running" if running else "done" if finished else "stopped",
            parts=parts,
            said="" if running or finished else _why_stopped(place, parts),
            queued=read_json(queued) if queued.exists() else None,
            completions=place / "completions.jsonl",
        )


def cache(place: Path) -> Path:
    """The cache of a job: answers of endpoints belong to its folder, so that redaction reaches them."""
    return place / "cache"


def lock_file(place: Path) -> Path:
    """The lock that the process of a job holds."""
    return place / ".lock"


def _part(path: Path, model: str, prompts: int, running: bool) -> ModelJob:
    log = path.with_suffix(".log")
    if path.exists():
        made = Manifest.read_or_none(manifest_path(path))  # written a moment after the rows
        results = made.results if made is not None else {}
        notes = [f"{words}: {results[name]}" for name, words in NOTES.items() if results.get(name)]
        return ModelJob(model, "done", prompts, "; ".join(notes))
    if not log.exists():
        return ModelJob(model, "waiting", 0, "")
    steps = PROGRESS.findall(log.read_text(encoding="utf-8", errors="replace"))
    done = int(steps[-1][0]) if steps else 0
    ended = path.with_suffix(".ended")
    if ended.exists():
        said = _last_line(log).removeprefix(f"{model}: ") or f"ended with code {ended.read_text()}"
        return ModelJob(model, "failed", done, said)
    return ModelJob(model, "running" if running else "waiting", done, "")


def _why_stopped(place: Path, parts: Sequence[ModelJob]) -> str:
    if any(part.state == "failed" for part in parts):
        return "a model failed"
    log = place / "runner.log"
    return (_last_line(log) if log.exists() else "") or "the process is gone"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:MOST_SAID] if lines else ""
