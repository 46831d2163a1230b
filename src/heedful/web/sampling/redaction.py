"""Take redacted prompts out of the files of sampling jobs: rows, logs, what endpoints said, and cached answers."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.files import read_json, replacing, write_json
from heedful.runs.manifest import manifest_path
from heedful.web.sampling.jobs import Sampler, cache

STOPPING = 10.0  # seconds that a job in progress may take to stop


def forget(sampler: Sampler, project: str, prompts: Sequence[Any]) -> None:
    """Delete every row of these prompts. A job in progress is stopped, and forgets what it has not finished."""
    gone = [prompt for prompt in prompts if prompt is not None]
    if not gone:
        return
    for place in sampler.places(project):
        if not any(_holds(path, gone) for path in place.glob("*.jsonl")):
            continue
        if not (place / "completions.jsonl").exists():
            _stop(sampler, project, place)
            for path in place.glob(".part-*"):
                path.unlink(missing_ok=True)
        shutil.rmtree(cache(place), ignore_errors=True)  # a cached answer does not tell its prompt
        for path in [*place.glob("*.log"), *place.glob("*.ended")]:  # an endpoint may repeat a prompt in its message
            path.unlink(missing_ok=True)
        for path in place.glob("*.jsonl"):
            _filter(path, gone)
            _filter_manifest(manifest_path(path))
        about = read_json(place / "job.json")
        rows = (place / "prompts.jsonl").read_bytes().count(b"\n")
        write_json(place / "job.json", about | {"prompts": rows})


def _filter_manifest(path: Path) -> None:
    """Take the messages of an endpoint out of a manifest. Their number stays."""
    if path.exists():
        made = read_json(path)
        for name in ("left_out", "remarks"):
            made.get("results", {}).pop(name, None)
        write_json(path, made)


def _stop(sampler: Sampler, project: str, place: Path) -> None:
    sampler.stop(project, int(place.name))
    until = time.monotonic() + STOPPING
    while sampler.job(project, int(place.name)).state == "running" and time.monotonic() < until:
        time.sleep(0.1)


def _holds(path: Path, prompts: list[Any]) -> bool:
    with open(path, encoding="utf-8") as file:
        return any(json.loads(line).get("prompt") in prompts for line in file)


def _filter(path: Path, prompts: list[Any]) -> None:
    with open(path, encoding="utf-8") as file, replacing(path) as made, open(made, "w", encoding="utf-8") as kept:
        for line in file:
            if json.loads(line).get("prompt") not in prompts:
                kept.write(line)
