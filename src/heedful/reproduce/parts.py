"""Experiments in parts: each is listed with its minutes, leaves a small JSON, and is skipped if that is up to date."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.files import Lock, read_json, write_json

Figures = dict[str, Any]
Folders = dict[str, Path]
Work = Callable[[Path, Folders], Figures]


@dataclass(frozen=True)
class Part:
    """A piece of work of at most half an hour.

    `work` maps the part's own folder, and the folders of the parts in `after` by name, to figures for JSON. It resumes
    what an earlier call has left in its folder. `settings` hold all that the figures depend on, but for `after`.
    """

    name: str
    minutes: float
    """Estimated, on two cores."""
    seed: int
    settings: dict[str, Any]
    work: Work
    after: tuple[Part, ...] = ()
    home: str = ""
    """Folder of its group of parts, in that of all work and in that of all records."""

    @property
    def place(self) -> str:
        """The name after that of its group."""
        return f"{self.home}/{self.name}" if self.home else self.name

    @cached_property
    def hash(self) -> str:
        """Names the settings, the seed and those of all parts before."""
        facts = [self.name, self.seed, self.settings, [part.hash for part in self.after]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Ledger:
    """Where parts work (`work`, large) and where their records are (`records`, one small JSON a part)."""

    def __init__(self, work: Path, records: Path) -> None:
        self.work, self.records = work, records

    def folder(self, part: Part) -> Path:
        """The part's own folder. Other settings have another one."""
        return self.work / part.home / f"{part.name}-{part.hash}"

    def path(self, part: Part) -> Path:
        """The file of the part's record."""
        return self.records / part.home / f"{part.name}.json"

    def record(self, part: Part) -> dict[str, Any] | None:
        """The record of a finished part with these settings."""
        path = self.path(part)
        found = read_json(path) if path.exists() else None
        if found is not None and not (isinstance(found, dict) and {"config_hash", "figures"} <= found.keys()):
            raise UserError(f"{path}: not the record of a part. Delete it, so that the part runs again")
        return found if found is not None and found["config_hash"] == part.hash else None

    def due(self, parts: Sequence[Part]) -> list[Part]:
        """The parts to run, in order: those without a record, and those before them whose files are not here."""
        wanted: dict[str, Part] = {}

        def want(part: Part) -> None:
            for before in part.after:
                if self.record(before) is None or not self._finished(before).exists():
                    want(before)
            wanted.setdefault(part.hash, part)

        for part in parts:
            if self.record(part) is None:
                want(part)
        return list(wanted.values())

    def run(self, parts: Sequence[Part], say: Callable[[str], None]) -> dict[str, Figures]:
        """Run what is due, after a list of it, and return the figures of all parts by name."""
        locks: list[Lock] = []
        try:
            for home in sorted({part.home for part in (*parts, *self.due(parts))}):
                place = self.work / home
                place.mkdir(parents=True, exist_ok=True)
                told = f"{place}: another process works here. Wait for it, or choose another --out"
                locks.append(Lock(place / ".lock", told))
            due = self.due(parts)
            for line in listing(parts, due):
                say(line)
            self._run_all(due, say)
        finally:
            for lock in locks:
                lock.release()
        return {part.name: (self.record(part) or {})["figures"] for part in parts}

    def _run_all(self, due: Sequence[Part], say: Callable[[str], None]) -> None:
        """Run parts in order. One that fails stops those that need it, and the others go on. UserError in the end."""
        failed: dict[str, str] = {}
        for number, part in enumerate(due, 1):
            say(f"[{number}/{len(due)}] {part.place}")
            missing = [before.place for before in part.after if before.hash in failed]
            try:
                if missing:
                    raise UserError(f"needs {missing[0]}")
                self._run(part)
            except UserError as error:
                failed[part.hash] = f"{part.place}: {error}"
                say(failed[part.hash])
        if failed:
            raise UserError(
                f"{len(failed)} of {len(due)} parts did not finish. The first is {next(iter(failed.values()))}"
            )

    def _run(self, part: Part) -> None:
        folder, start = self.folder(part), time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        figures = part.work(folder, {before.name: self.folder(before) for before in part.after})
        record = {
            "part": part.name, "seed": part.seed, "config_hash": part.hash, "settings": part.settings,
            "minutes": round((time.perf_counter() - start) / 60, 2), "figures": figures,
        }  # fmt: skip
        self.path(part).parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path(part), record)
        write_json(self._finished(part), {"config_hash": part.hash})

    def _finished(self, part: Part) -> Path:
        return self.folder(part) / "finished.json"


def listing(parts: Sequence[Part], due: Sequence[Part]) -> list[str]:
    """What will be done, with estimated minutes."""
    running = {part.hash for part in due}
    lines = [f"  {part.place:<34} about {max(1, round(part.minutes))} min" for part in due]
    done = sum(part.hash not in running for part in parts)
    total = sum(part.minutes for part in due)
    head = f"Parts to run: {len(due)}, about {max(1, round(total))} min on two cores. Done: {done}."
    return [head, *lines]
