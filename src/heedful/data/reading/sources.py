"""From what a user gives to the files that hold the rows: a file, a folder, a pattern, a snapshot or a hub data set."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.config import UserError, install
from heedful.data.reading import columns, text
from heedful.data.reading.streams import FileLimits, opened, told
from heedful.data.reading.values import Bad, with_chats
from heedful.files import Row

MANIFEST, SNAPSHOT_ROWS = "manifest.json", "records.jsonl"

_FORMATS = {
    ".jsonl": "json", ".json": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "tsv", ".txt": "txt",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
_PACKED = (".gz", ".zst")
_NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", MANIFEST, "README.txt"}
SPLITS = {
    "train": "train", "training": "train", "validation": "valid", "valid": "valid", "dev": "valid", "val": "valid",
    "holdout": "test", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_HUB = re.compile(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?(?::([\w./-]+))?")
_CONVERTED = "refs/convert/parquet"  # the branch on which the hub keeps each data set as config/split/*.parquet

READABLE = tuple(
    ending + packed
    for ending, kind in _FORMATS.items()
    for packed in ("", *_PACKED)
    if not packed or kind not in ("parquet", "arrow")
)
"""Endings of the files that can be read."""


@dataclass(frozen=True)
class FileSource:
    """The files behind a name that the user gave."""

    name: str
    files: list[Path]
    cached: bool = False
    """Whether the files are in the hub's cache, where nobody else writes."""

    @property
    def path(self) -> Path:
        """The file, or the place of the files, for what is written next to it."""
        if len(self.files) == 1 and not self.cached:
            return self.files[0]
        if self.cached:
            return Path(re.sub(r"[/:@]+", "--", self.name.removeprefix("hf://datasets/")))
        return Path(re.sub(r"[*?\[\]:]+", "_", self.name).rstrip("/"))

    def rows(self, limits: FileLimits, field: str = "prompt") -> Iterator[tuple[Path, int, Row | Bad]]:
        """(file, line or row number from 1, row) of all rows. `field` is the field of a line of plain text."""
        for file in self.files:
            for line, row in rows(file, limits, field):
                yield file, line, with_chats(row)

    def sha256(self) -> str:
        """The hash of the bytes of a single file, or of the hashes of several files with their names."""
        hashes = [(file.name, sha256(file)) for file in self.files]
        if len(hashes) == 1:
            return hashes[0][1]
        return hashlib.sha256(json.dumps(hashes).encode("utf-8")).hexdigest()

    def count(self) -> int:
        """The number of rows, without checking them."""
        return sum(_count(file) for file in self.files)


def find(given: str | Path) -> FileSource:
    """The files of a path, folder, pattern, snapshot or hub data set. UserError says what is wrong with the name."""
    name, path = str(given), Path(given)
    if path.is_dir():
        return FileSource(name, _files_of(path))
    if path.exists() and not path.is_file():
        raise UserError(f"{name}: is a pipe or a device, and rows are read twice. Write them to a file first.")
    if path.exists():
        return FileSource(name, [path])
    if name.startswith(("https:/", "http:/")):
        raise UserError(f"{name}: an address. Download the file, or give the name of its data set, such as OWNER/NAME.")
    if glob.has_magic(name):
        found = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]
        if not found:
            raise UserError(f"{name}: no file has such a name. Check the pattern.")
        return FileSource(name, _of_one_format(name, found))
    folder, colon, split = name.rpartition(":")
    if colon and Path(folder).is_dir():
        return FileSource(name, _files_of(Path(folder), split))
    if (match := _HUB.fullmatch(name)) and not _looks_like_a_path(name):
        return _from_hub(name, *match.groups())
    return FileSource(name, [path])  # opening it tells that it does not exist


def snapshot_rows(path: Path) -> Path | None:
    """The rows of the snapshot in this folder after a check of their hash. None if there is no snapshot."""
    if not (path / MANIFEST).is_file() or not (path / SNAPSHOT_ROWS).is_file():
        return None
    frozen = read_manifest(path)
    if sha256(path / SNAPSHOT_ROWS) != frozen["sha256"]:
        raise UserError(f"{path / SNAPSHOT_ROWS}: changed since it was frozen. Restore it or freeze a new snapshot.")
    return path / SNAPSHOT_ROWS


def read_manifest(directory: Path) -> Row:
    """The manifest of a snapshot."""
    path = directory / MANIFEST
    with told(path):
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            raise UserError(f"{path}: not JSON. Restore it or freeze a new snapshot.") from None
    if not isinstance(manifest, dict) or not {"records", "rows", "sha256", "filters"} <= manifest.keys():
        raise UserError(f"{path}: not the manifest of a snapshot. Give a data file or the directory of a snapshot.")
    return manifest


def sha256(path: str | Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    with told(Path(path)), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows(path: Path, limits: FileLimits, field: str = "prompt") -> Iterator[tuple[int, Row | Bad]]:
    """(line or row number from 1, row) of one file. `field` is the field of a line of plain text."""
    kind = _format(path)
    if kind == "parquet":
        return columns.parquet_rows(path, limits)
    if kind == "arrow":
        return columns.arrow_rows(path, limits)
    return _limited(path, _text_rows(path, kind, limits, field), limits)


def _text_rows(path: Path, kind: str, limits: FileLimits, field: str) -> text.NumberedRows:
    if kind == "txt":
        return text.text_rows(path, limits, field)
    if kind == "json":
        return text.json_rows(path, limits)
    return text.table_rows(path, limits, tabs=kind == "tsv")


def _limited(path: Path, found: text.NumberedRows, limits: FileLimits) -> text.NumberedRows:
    most = None
    for number, row in enumerate(found, 1):
        most = limits.rows_of(path.stat().st_size) if most is None else most
        if number > most:
            raise UserError(f"{path}: holds more than {most:,} rows. Give it in parts.")
        yield row


def _count(file: Path) -> int:
    kind = _format(file)
    if kind == "parquet":
        return columns.parquet_count(file)
    if kind == "json" and file.name.removesuffix(".gz").endswith(".jsonl"):
        with opened(file, FileLimits()) as stream:
            start = stream.peek(1)[:1]  # type: ignore[attr-defined]
            if start != b"[":
                return sum(1 for line in stream if line.strip())
    return sum(1 for _ in rows(file, FileLimits()))


def _format(path: Path) -> str:
    """The format of a file by its name, or by its first bytes if the name has no known ending."""
    ending = _ending(path)
    if ending is not None:
        return _FORMATS[ending]
    with told(path), open(path, "rb") as file:
        head = file.read(64).lstrip()
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith((b"{", b"[", b"\xef\xbb\xbf{", b"\xef\xbb\xbf[")):
        return "json"
    raise UserError(f"{path}: cannot read this kind of file. Name it {', '.join(_FORMATS)}.")


def _ending(path: Path) -> str | None:
    name = path.name.lower()
    name = next((name.removesuffix(packed) for packed in _PACKED if name.endswith(packed)), name)
    return next((ending for ending in _FORMATS if name.endswith(ending)), None)


def _files_of(folder: Path, split: str | None = None) -> list[Path]:
    """The files with rows in a folder: of a snapshot, of what `datasets` saved, or shards of one format."""
    if (snapshot := snapshot_rows(folder)) is not None:
        return [snapshot]
    if (folder / "dataset_dict.json").is_file():
        names = _json(folder / "dataset_dict.json").get("splits", [])
        return _files_of(folder / _one_split(str(folder), names, split))
    if (folder / "state.json").is_file():
        state = _json(folder / "state.json")
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise UserError(f"{folder}: saved with row indices. Save it again with a new version of datasets.")
        return [folder / part["filename"] for part in state.get("_data_files", [])]
    found = [path for path in sorted(folder.rglob("*")) if _holds_rows(path.relative_to(folder), path)]
    if not found:
        raise UserError(f"{folder}: a directory without a snapshot or files of rows ({', '.join(_FORMATS)}).")
    found = _of_one_format(str(folder), found)
    splits = {path: _split_of(path.relative_to(folder)) for path in found}
    names = sorted({name for name in splits.values() if name is not None})
    others = next((path for path in found if splits[path] is None), None)
    if split is None and others is not None and (held_out := [name for name in names if name != "train"]):
        raise UserError(
            f"{folder}: holds files of the split {held_out[0]} and others, such as {others.relative_to(folder)}. Name"
            f" the files, or the split, as in {folder}:{held_out[0]}"
        )
    if split is None and len(names) < 2:
        return found
    wanted = _one_split(str(folder), names, split)
    return [path for path in found if splits[path] in (wanted, SPLITS.get(wanted))]


def _holds_rows(relative: Path, path: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.parts)
    named = path.name in _NOT_ROWS or path.name.endswith(".rejected.jsonl")
    return not hidden and not named and _ending(path) is not None and path.is_file()


def _of_one_format(name: str, files: list[Path]) -> list[Path]:
    kinds = Counter(_ending(path) or "others" for path in files)
    if len(kinds) > 1:
        shown = " and ".join(f"{count} {ending}" for ending, count in sorted(kinds.items()))
        raise UserError(
            f"{name}: holds files of several formats ({shown}). Give one, as in '{name.rstrip('/')}/*.csv'."
        )
    return files


def _split_of(relative: Path) -> str | None:
    """The split that a file's name or folder tells, as in train-00000-of-00002.parquet or data/test/0.parquet."""
    words = re.split(r"[^a-z]+", str(relative).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _one_split(name: str, splits: list[str], wanted: str | None) -> str:
    if wanted in splits:
        return str(wanted)
    if wanted is not None and (known := SPLITS.get(wanted)) in splits:
        return str(known)
    if wanted is None and len(splits) == 1:
        return splits[0]
    shown = ", ".join(splits)
    raise UserError(f"{name}: has the splits {shown}. Name one, as in {name.rstrip('/')}:{next(iter(splits), 'train')}")


def _json(path: Path) -> dict[str, Any]:
    with told(path):
        try:
            value = json.loads(path.read_bytes())
        except ValueError:
            raise UserError(f"{path}: not JSON. Save the data set again.") from None
    return value if isinstance(value, dict) else {}


def _looks_like_a_path(name: str) -> bool:
    return _ending(Path(name)) is not None or name.startswith((".", "/", "~")) or Path(name).parent.is_dir()


@functools.cache
def _from_hub(name: str, repository: str, revision: str | None, part: str | None) -> FileSource:
    """The files of a data set on the Hugging Face hub, downloaded into its cache.

    Without a revision they are the Parquet files that the hub makes of every data set. Without a network, what was
    downloaded before.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UserError(f"{name}: no such file. A data set of the hub needs {install('files')}.") from None
    errors: Any = (HfHubHTTPError.__bases__[0], OSError, ValueError)  # the first: any error of the network
    at = revision or _CONVERTED
    fetch = functools.partial(huggingface_hub.snapshot_download, repository, repo_type="dataset", revision=at)
    try:
        listed = huggingface_hub.HfApi().dataset_info(repository, revision=at, timeout=20).siblings or []
        wanted = _of_hub(name, [file.rfilename for file in listed], part)
        folder = Path(fetch(allow_patterns=wanted))
    except UserError:
        raise
    except errors as error:
        try:
            folder = Path(fetch(local_files_only=True))
        except errors:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{name}: no such file, and the hub did not give a data set of this name ({reason})."
                " Check the name and the network, or download it and give its folder."
            ) from None
        there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        wanted = _of_hub(name, there, part)
    return FileSource(name, _of_one_format(name, [folder / file for file in wanted]), cached=True)


def _of_hub(name: str, files: list[str], part: str | None) -> list[str]:
    """The files of one part of a data set: of a config and a split, or under a folder of this name."""
    files = [file for file in files if _ending(Path(file)) is not None]
    parts = sorted({str(Path(file).parent) for file in files})
    chosen = [
        found for found in parts if part is None or found in (part, f"default/{part}") or found.startswith(f"{part}/")
    ]
    if len(chosen) != 1:
        shown = ", ".join(found.removeprefix("default/") for found in chosen or parts) or "no files of rows"
        raise UserError(f"{name}: has the parts {shown}. Name one, as in {name.partition(':')[0]}:PART")
    return sorted(file for file in files if str(Path(file).parent) == chosen[0])
