"""The manifest: what a run, or a file of rows, was made from and what came of it.

A run keeps it in RUN/manifest.json, a file NAME of samples or scores in NAME.manifest.json next to it.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import platform
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from heedful.config import Config, UserError, resumable
from heedful.data.formats import sha256
from heedful.files import read_json, write_json

NAME = "manifest.json"
ADAPTER = "adapter_config.json"  # of peft, instead of config.json
VERSIONED = ("heedful", "torch", "transformers", "tokenizers", "numpy")
# fields that are not written while they are empty
_ABSENT = (
    "templates",
    "functions",
    "resumed",
    "updated",
    "forward",
    "rows",
    "preflight",
    "ids",
    "decoder",
    "results",
    "sha256",
    "reason",
)
Status = Literal["running", "finished", "interrupted", "failed"]
Source = dict[str, Any]
TOKENIZER = ("tokenizer*", "vocab.*", "merges.txt", "chat_template.*", "spiece.model")  # files of a model directory


class Changes(NamedTuple):
    """How work that is wanted now differs from work that was begun."""

    refused: str = ""
    """What would change its results, in words."""
    taken: dict[str, list[Any]] = {}
    """Settings that may change: key to [old, new]."""
    longer: bool = False
    """Whether the work gets longer."""


class Manifest(BaseModel):
    """One manifest. Unknown fields of a file are kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    stage: str
    """The command, as in "sft" or "sample"."""
    status: Status
    """A process that was killed leaves "running" behind."""
    created: str | None = None
    """Time in UTC, as ISO 8601."""
    seed: int | None = None
    parents: dict[str, Source]
    """Models by role: `ref`, and if known `run` (its id) and `weights_sha256`."""
    data: dict[str, Source]
    """Files by role: `path`, `sha256`, `rows`."""
    templates: dict[str, Source] = {}
    """The file of a chat template by its setting: `path`, `sha256`."""
    functions: dict[str, Source] = {}
    """Reward functions by role: `ref`, and the `path` and `sha256` of the module."""
    revision: str | None = None
    """Git revision of the code, if it ran from a checkout."""
    versions: dict[str, str | None] = {}
    config: dict[str, Any]
    resumed: list[dict[str, Any]] = []
    """Resumptions with other settings: the `step` from which they act, the time, and `changed`, key to [old, new]."""
    updated: str | None = None
    seconds: float = 0.0
    """Time worked, without pauses."""
    forward: dict[str, str] = {}
    """How each model's forward ran, by role: "packed rows", or "padded rows (why)"."""
    rows: dict[str, dict[str, int]] = {}
    """Rows that were left out or changed on reading, by file and reason."""
    preflight: list[dict[str, Any]] = []
    """Checks before the work: `name`, `figure`, `bound`, `passed` (None: it could not be made) and `remedy`."""
    ids: dict[str, str] = {}
    """Models with more rows than tokens, by role: how many rows are tokens. The others are never sampled and get no
    probability.
    """
    decoder: dict[str, str] = {}
    """What each model sampled with, by role: "fast", "cached" (its own forward with a key-value cache) or "plain"."""
    results: dict[str, Any] = {}
    sha256: str | None = None
    """Of a finished file of rows."""
    reason: str | None = None
    """Why the work failed."""
    _settings: Config | None = PrivateAttr(None)
    """The config itself, of work that starts now."""

    @classmethod
    def begin(
        cls, stage: str, config: Config, parents: dict[str, Source], data: dict[str, Source],
        functions: dict[str, Source] | None = None,
    ) -> Manifest:  # fmt: skip
        """The manifest of work that starts now."""
        begun = cls(
            id=uuid.uuid4().hex[:16],
            stage=stage,
            status="running",
            created=_now(),
            seed=getattr(config, "seed", None),
            parents=parents,
            data=data,
            templates=_template_file(config),
            functions=functions or {},
            revision=_revision(),
            versions={name: _version(name) for name in VERSIONED} | {"python": platform.python_version()},
            config=config.model_dump(mode="json"),
        )
        begun._settings = config
        return begun

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file. Raises UserError if it is damaged, or the manifest of a snapshot or of another program."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError:
            raise UserError(
                f"{path}: not the manifest of a run. Choose another place, or restore a copy of the manifest"
            ) from None

    @classmethod
    def read_or_none(cls, path: Path) -> Manifest | None:
        """Read a file that may be of another kind, or absent."""
        try:
            return cls.read(path) if path.is_file() else None
        except UserError:
            return None

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        absent = {name for name in _ABSENT if not getattr(self, name)}
        write_json(path, {name: value for name, value in self if name not in absent})

    def record(self, status: Status, **facts: Any) -> None:
        """Set the status and further fields, and the time of this change."""
        for name, value in ({"reason": None} | facts | {"status": status, "updated": _now()}).items():
            setattr(self, name, value)

    def changes(self, wanted: Manifest) -> Changes:
        """How the work that is `wanted` now differs from this one."""
        if self.stage != wanted.stage:
            return Changes(f"another command (heedful {self.stage})")
        assert wanted._settings is not None
        free, growing = (resumable(wanted._settings, kind) for kind in ("may_change", "may_grow"))
        refused, taken, longer = [], {}, False
        for key, old, new in _differences(_with_defaults(self.config, wanted._settings), wanted.config):
            grows = key in growing and isinstance(old, int) and 0 < old < new
            if grows or key in free or _named(old, self) == _named(new, wanted):
                taken[key], longer = [old, new], longer or grows
            else:
                refused.append(f"'{key}' was {old!r}, now {new!r}")
        if refused:
            may = ", ".join([*sorted(free), *(f"a larger {key}" for key in sorted(growing))])
            return Changes(f"another config ({', '.join(refused)}). The results would not be those of one run. "
                           f"These settings may change: {may}")  # fmt: skip
        for kind in ("data", "parents", "templates"):
            before, now = getattr(self, kind), getattr(wanted, kind)
            for role, source in before.items():
                if not _same(source, now.get(role, {})):
                    return Changes(f"other {kind} ('{role}' has changed since)")
        for role, source in self.functions.items():
            now = wanted.functions.get(role, source)
            if not _same(source, now):  # a function that failed has to be mended before its run can go on
                taken[f"the code of {now['path']}"] = [source["sha256"][:12], now["sha256"][:12]]
        return Changes("", taken, longer)

    def go_on(self, wanted: Manifest, taken: dict[str, list[Any]], step: int) -> None:
        """Take over the settings of `wanted` that may change, from `step` on."""
        if taken:
            self.resumed = [*self.resumed, {"step": step, "time": _now(), "changed": taken}]
        self.config, self.parents, self.data = wanted.config, wanted.parents, wanted.data
        self.templates, self.functions = wanted.templates, wanted.functions


def manifest_path(made: str | Path) -> Path:
    """Where the manifest of a run directory or of a file of rows is."""
    made = Path(made)
    return made / NAME if made.is_dir() else made.with_name(f"{made.name}.{NAME}")


def maker(ref: str | Path) -> Manifest | None:
    """The manifest of what made a run or a file of rows, if there is one."""
    return Manifest.read_or_none(manifest_path(ref))


def ancestry(name: str, manifest: Manifest, seen: set[str] | None = None) -> Iterator[tuple[str, Manifest]]:
    """What `manifest` describes and every run that it was made from, each once, with their names."""
    seen = set() if seen is None else seen
    if manifest.id in seen:
        return
    seen.add(manifest.id)
    yield name, manifest
    for source in manifest.parents.values():
        if (made := maker(str(source.get("ref")))) is not None:
            yield from ancestry(Path(str(source["ref"])).name, made, seen)


def check_there(ref: str) -> None:
    """Raise UserError for a path without a model directory. A hub name passes."""
    if not Path(ref).is_dir() and (Path(ref).exists() or ref.startswith((".", "/", "~")) or ref.count("/") > 1):
        raise UserError(f"{ref}: no such model directory")


def model_path(ref: str | Path) -> str:
    """The model that a reference names: RUN/model for a run, else the local directory or hub name itself."""
    if on_hub := re.match(r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)([\w.-]+/[\w.-]+)", str(ref)):
        raise UserError(f"{ref}: an address of the hub. Write the name alone: {on_hub[1]}")
    if "://" in str(ref):
        raise UserError(
            f"{ref}: a model behind an address. This command needs a model's files: a run, folder or hub name"
        )
    path = Path(ref)
    if path.is_file():
        what = "GGUF weights, which cannot be trained" if path.suffix == ".gguf" else "a file"
        raise UserError(
            f"{ref}: neither a run nor a Hugging Face model directory, but {what}. Give a folder with config.json"
        )
    if (path / NAME).exists():
        if not (path / "model").is_dir():
            Manifest.read(path / NAME)  # a snapshot cannot be finished
            if members := sorted((path / "members").glob(f"[0-9]*/{NAME}")):
                names = ",".join(str(member.parent) for member in members)
                raise UserError(f'{ref}: an ensemble. Name one of its members, or all as a reward: "min({names})"')
            if (path / "folds").is_dir():
                raise UserError(f"{ref}: a cross-validation leaves no model. Train one without folds")
            raise UserError(f"{ref}: this run has no model/ yet. Finish it with --resume")
        return str(path / "model")
    if path.exists() and not any((path / name).exists() for name in ("config.json", ADAPTER)):
        inner = [file.parent for name in ("config.json", ADAPTER) for file in sorted(path.glob(f"*/{name}"))]
        hint = f". Give one of its folders, such as {inner[0]}" if inner else ""
        raise UserError(
            f"{ref}: neither a run nor a Hugging Face model directory (no manifest.json, no config.json){hint}"
        )
    return str(ref)


def adapters(ref: str | Path) -> list[tuple[Path, str]]:
    """(folder, base) of the adapter at `ref` and of those that its base is, too. Empty for a whole model.

    A relative base may begin at the adapter's own folder. Raises UserError for a description that names no base.
    """
    found: list[tuple[Path, str]] = []
    folder = Path(model_path(ref))
    while (file := folder / ADAPTER).is_file() and not (folder / "config.json").exists():
        described = read_json(file)
        base = described.get("base_model_name_or_path") if isinstance(described, dict) else None
        if not isinstance(base, str) or not base.strip():
            raise UserError(f"{file}: names no base. Write its folder or hub name as base_model_name_or_path")
        here, there = Path(base).expanduser(), folder / base
        base = str(here if base.startswith("~") else there if not here.is_dir() and there.is_dir() else base)
        found.append((folder, base))
        folder = Path(model_path(base)) if Path(base).is_dir() else Path(base)
        if any(folder.resolve() == earlier.resolve() for earlier, _ in found):
            raise UserError(f"{file}: an adapter of itself. Correct base_model_name_or_path")
    return found


def parent(ref: str | Path) -> Source:
    """What a manifest says of a model: its reference, the id of its run, the hash of its weights."""
    described: Source = {"ref": str(ref)}
    if (Path(ref) / NAME).exists():
        described["run"] = Manifest.read(Path(ref) / NAME).id
    directory = Path(model_path(ref))
    folders = [directory]
    folders += [Path(base) for _, base in adapters(ref)]  # what an adapter makes also depends on its base
    folders = [Path(model_path(folder)) if folder.is_dir() else folder for folder in folders]
    if directory.is_dir():
        for key, patterns in (
            ("weights_sha256", ("*.safetensors", "adapter_model.bin")),
            ("tokenizer_sha256", TOKENIZER),
        ):
            globbed = (folder.glob(pattern) for folder in folders for pattern in patterns if folder.is_dir())
            found = sorted({file for files in globbed for file in files if file.is_file()})
            if found:
                described[key] = _sha256(found)
    return described


def _sha256(paths: list[Path]) -> str:
    """The hash of files one after the other."""
    digest = hashlib.sha256()
    for file in paths:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)  # goes on where the file before ended
    return digest.hexdigest()


def _with_defaults(config: dict[str, Any], like: Config) -> dict[str, Any]:
    """The config of an earlier version of heedful, with the settings that are new since at their defaults."""
    try:
        return type(like).model_validate(config).model_dump(mode="json")
    except ValidationError:
        return config


def _differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(key, old, new) for each value that differs, with keys as in `optimiser.lr`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            found += _differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if old == new else [(prefix, old, new)]


def _template_file(config: Config) -> dict[str, Source]:
    """The file of a chat template as an entry of `templates`."""
    given = getattr(config, "template", {}).get("chat_template", getattr(config, "chat_template", None))
    if not isinstance(given, str) or not given.endswith(".jinja"):
        return {}
    return {"chat_template": {"path": given, "sha256": sha256(given)}}


def _named(value: Any, manifest: Manifest) -> Any:
    """A value of the config with hashes in place of the paths of models and files: "0.5*<hash>" for "0.5*runs/a".

    So the members of an ensemble of rewards may move, too: "min(<hash>,<hash>)" for "min(runs/a,runs/b)".
    """
    if isinstance(value, list):
        return [_named(one, manifest) for one in value]
    if isinstance(value, str) and (inner := re.fullmatch(r"([^()]*)\(([^()]*)\)", value)) and not Path(value).exists():
        return f"{inner[1]}({','.join(str(_named(one.strip(), manifest)) for one in inner[2].split(','))})"
    for source in (*manifest.parents.values(), *manifest.data.values(), *manifest.templates.values()):
        place = source.get("ref") or source.get("path")
        if isinstance(value, str) and place and (value == place or value.endswith(f"*{place}")):
            return value.removesuffix(place) + str(content(source))
    return value


def _same(old: Source, new: Source) -> bool:
    """Whether two entries name the same content. A tokenizer counts where both entries know it."""
    tokenizers = {source["tokenizer_sha256"] for source in (old, new) if "tokenizer_sha256" in source}
    return content(old) == content(new) and len(tokenizers) < 2


def content(source: Source) -> Any:
    """The part of an entry that names content, not the place where it is."""
    return source.get("sha256") or source.get("weights_sha256") or source.get("ref")


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
