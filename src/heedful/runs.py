"""A run directory: resolved config, manifest, metrics, samples, checkpoints, model.

RUN/config.json       the resolved config
RUN/manifest.json     id, stage, status, parents, data hashes, revision, versions, seed, results
RUN/metrics.jsonl     one line a step, appended
RUN/samples.jsonl     texts to read while it trains
RUN/checkpoints/      step-00000100/ ...: what --resume needs
RUN/model/            the result: loads with plain transformers
"""

from __future__ import annotations

import datetime
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from heedful.config import Config, UserError

VERSIONED = ("heedful", "torch", "transformers", "tokenizers", "numpy")


def write_atomically(path: Path, text: str) -> None:
    """Write the whole file or nothing: a temporary file beside it, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError for a file that is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); put back a copy of it or begin anew elsewhere") from None


def read_manifest(path: Path) -> dict[str, Any]:
    """What `new_manifest` began. Raises UserError for a damaged file, and for a snapshot's or another program's."""
    found = read_json(path)
    sections = [found.get(name) for name in ("config", "parents", "data")] if isinstance(found, dict) else [None]
    if not all(isinstance(section, dict) for section in sections) or not {"id", "stage", "status"} <= found.keys():
        raise UserError(f"{path}: not the manifest of a run; give another place, or put back a copy of it")
    return dict(found)


def model_path(ref: str | Path) -> str:
    """Resolve M: a run directory -> its model/, a local Hugging Face directory or a hub name -> itself."""
    path = Path(ref)
    if (path / "manifest.json").exists():
        if not (path / "model").is_dir():
            read_manifest(path / "manifest.json")  # a snapshot cannot be finished
            raise UserError(f"{ref}: this run has no model/ yet; finish it with --resume")
        return str(path / "model")
    if path.exists() and not (path / "config.json").exists():
        raise UserError(f"{ref}: neither a run nor a Hugging Face model directory (no manifest.json, no config.json)")
    return str(ref)


def parent(ref: str | Path) -> dict[str, Any]:
    """What a manifest remembers of a model it was made from: reference, run id, hash of the weights."""
    described: dict[str, Any] = {"ref": str(ref)}
    manifest = Path(ref) / "manifest.json"
    if manifest.exists():
        described["run"] = read_manifest(manifest)["id"]
    directory = Path(model_path(ref))
    weights = sorted(directory.glob("*.safetensors")) if directory.is_dir() else []
    if weights:
        digest = hashlib.sha256()
        for file in weights:
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        described["weights_sha256"] = digest.hexdigest()
    return described


class Run:
    """One run directory, written by one process. Use `Run.start`; the main rank alone holds one."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.fresh = False
        """Whether this process made it."""
        self._lock: int | None = None
        self._counted = time.monotonic()

    @classmethod
    def start(
        cls,
        out: str | Path,
        stage: str,
        config: Config,
        *,
        parents: dict[str, Any],
        data: dict[str, Any],
        resume: bool = False,
    ) -> Run:
        """Make a new run directory, or reopen one with `resume`.

        Raises UserError if the place is taken, holds another stage or another config, or is being written.
        """
        path = Path(out)
        resolved = json.loads(config.model_dump_json())
        if (path / "manifest.json").exists():
            run = cls._reopen(path, stage, resolved, parents, data, resume)
        else:
            if path.exists() and (not path.is_dir() or any(not _is_ours(entry) for entry in path.iterdir())):
                raise UserError(f"{path}: already exists and is not a run; choose another --out")
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, new_manifest(stage, resolved, parents, data))
            run.fresh = True
        run._take_lock()
        for leftover in (*path.glob(".*.tmp"), *path.glob("checkpoints/.*.tmp"), *path.glob(".old-*")):  # by kill -9
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if not run.finished:
            run.set_status("running")
        write_json(path / "config.json", resolved)
        (path / "checkpoints").mkdir(exist_ok=True)
        return run

    @classmethod
    def _reopen(
        cls,
        path: Path,
        stage: str,
        resolved: dict[str, Any],
        parents: dict[str, Any],
        data: dict[str, Any],
        resume: bool,
    ) -> Run:
        manifest = read_manifest(path / "manifest.json")
        if not resume:
            raise UserError(
                f"{path}: already holds a {manifest['stage']} run; go on with --resume or choose another --out"
            )
        if manifest["stage"] != stage:
            raise UserError(f"{path}: holds a {manifest['stage']} run, not {stage}; choose another --out")
        difference = changed(manifest, resolved, parents, data)
        if difference is not None:
            raise UserError(f"{path}: --resume with {difference}; undo that change")
        return cls(path, manifest)

    @property
    def finished(self) -> bool:
        """Not without model/: what was deleted is made again from the last checkpoint."""
        return bool(self.manifest["status"] == "finished") and (self.path / "model").is_dir()

    def set_status(self, status: str, **facts: Any) -> None:
        """`status`: running, finished, interrupted or failed; `facts` go into the manifest, and the seconds worked."""
        self.manifest.pop("reason", None)
        now = time.monotonic()
        worked = self.manifest.get("seconds", 0.0) + now - self._counted
        self._counted = now
        self.manifest.update(status=status, updated=_now(), seconds=round(worked, 3), **facts)
        write_json(self.path / "manifest.json", self.manifest)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append one line to metrics.jsonl (means over all micro-batches and ranks)."""
        self._append("metrics.jsonl", {"step": step, **{key: short(value) for key, value in metrics.items()}})

    def sample(self, step: int, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._append("samples.jsonl", {"step": step, **row})

    def forget_after(self, step: int) -> None:
        """Drop logged lines of later steps: a resumed run writes them again."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            file = self.path / name
            if file.exists():
                kept = [line for line in lines_of(file) if _step_of(line) <= step]
                write_atomically(file, "".join(line + "\n" for line in kept))

    def replace_directory(self, name: str, source: Path) -> None:
        """Put the finished directory `source` in place as `name` (rename; an older one goes away)."""
        target, old = self.path / name, self.path / f".old-{name}"
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.replace(target, old)
        os.replace(source, target)
        shutil.rmtree(old, ignore_errors=True)

    def discard_if_empty(self) -> bool:
        """Remove a run that this process made and in which no step was taken, so that the command can be given
        again.
        """
        started = (self.path / "metrics.jsonl").exists() or any((self.path / "checkpoints").iterdir())
        if self.fresh and not started:
            shutil.rmtree(self.path)
        return self.fresh and not started

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _take_lock(self) -> None:
        self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UserError(
                f"{self.path}: another process is writing this run; wait for it or choose another --out"
            ) from None


def metrics(path: str | Path) -> list[dict[str, float]]:
    """All rows of a run's metrics.jsonl."""
    file = Path(path) / "metrics.jsonl"
    return [json.loads(line) for line in lines_of(file)] if file.exists() else []


def lines_of(file: Path) -> list[str]:
    """Of a JSONL file. Its texts may hold what `splitlines` takes for the end of a line (U+2028, U+0085)."""
    return [line for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if line]


def _is_ours(entry: Path) -> bool:
    """Whether a run that was killed before its manifest was written may have left this behind."""
    return entry.name == ".lock" or (entry.name.startswith(".manifest.json.") and entry.name.endswith(".tmp"))


def changed(
    manifest: dict[str, Any], config: dict[str, Any], parents: dict[str, Any], data: dict[str, Any]
) -> str | None:
    """The first thing in which a manifest differs from what is asked for now, config first; None = nothing."""
    for key, old, new in _differences(manifest["config"], config):
        return f"another config ('{key}' was {old!r}, now {new!r})"
    for kind, before, now in (("data", manifest["data"], data), ("parents", manifest["parents"], parents)):
        for key in before:
            if _content(before[key]) != _content(now.get(key)):
                return f"other {kind} ('{key}' has changed since)"
    return None


def new_manifest(stage: str, config: dict[str, Any], parents: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """What is known when work starts: id, config, parents, data hashes, revision, versions, seed."""
    return {
        "id": uuid.uuid4().hex[:16],
        "stage": stage,
        "status": "running",
        "created": _now(),
        "seed": config.get("seed"),
        "parents": parents,
        "data": data,
        "revision": _revision(),
        "versions": {name: _version(name) for name in VERSIONED} | {"python": platform.python_version()},
        "config": config,
    }


def _differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            found += _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [(prefix, old, new)]


def _content(described: Any) -> Any:
    """The part of a manifest entry that names content, not the place it lies in."""
    if not isinstance(described, dict):
        return described
    return described.get("sha256") or described.get("weights_sha256") or described.get("ref")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash


def short(value: float) -> float:
    """A figure as it is logged."""
    return float(f"{value:.7g}")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _revision() -> str | None:
    """The git revision of the code, if it runs from a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
