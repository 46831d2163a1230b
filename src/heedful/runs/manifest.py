"""What a manifest says: id, stage, parents, data, versions and settings of a run or of a file of rows."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import uuid
from pathlib import Path
from typing import Any

from heedful.config import UserError
from heedful.files import read_json

VERSIONED = ("heedful", "torch", "transformers", "tokenizers", "numpy")


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
        "created": timestamp(),
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


def timestamp() -> str:
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
