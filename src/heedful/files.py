"""Files that are written whole or not at all, locks, and JSON Lines.

A writer works on a temporary path next to the target and renames it at the end. A process that is killed leaves the old
content in place, and at worst a hidden `.NAME.PID.tmp` next to it. If that was between two renames, the old directory
is in `.NAME.PID.old`, and the next writer puts it back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from heedful.config import UserError

Row = dict[str, Any]
"""A row of a file: an object of JSON Lines, or the cells of a table by their column."""
TEMPORARY = ".*.tmp"  # what a killed process leaves behind
ASIDE = re.compile(r"\.(.+)\.\d+\.old")  # a directory that makes room for the new one


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and remove what is there in the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path. The file or directory that the caller makes there takes the place of `path`.

    After an error `path` is as before. `sync` flushes the file, or all files of the directory, to the disk before the
    rename, and the rename after it.
    """
    if not path.exists():
        _put_back(path.parent, path.name)
    with scratch(path) as temporary:
        yield temporary
        if sync:
            for each in (*temporary.rglob("*"), temporary):
                flush(each)
        if path.is_dir() and temporary.is_dir():  # a file never takes the place of a directory: os.replace refuses
            _replace_directory(temporary, path)
        else:
            os.replace(temporary, path)
        if sync:
            flush(path.parent)


def flush(path: Path) -> None:
    """Flush a file, or the list of names in a directory, to the disk. Windows cannot flush a directory."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_directory(source: Path, target: Path) -> None:
    """Move the old directory aside first: no system renames a directory onto one that is not empty."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.old")
    _remove(aside)
    os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        os.replace(aside, target)
        raise
    os.replace(aside, source)  # no longer what must be put back, also if it is removed in part
    _remove(source)


def _put_back(directory: Path, only: str | None = None) -> None:
    """Rename directories that a killed writer moved aside back to their names, unless the new one is there."""
    for aside in sorted(directory.glob(".*.old")):
        name = ASIDE.fullmatch(aside.name)
        if name is None or only not in (None, name[1]):
            continue
        if (directory / name[1]).exists():
            _remove(aside)
        else:
            os.replace(aside, directory / name[1])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_directory(path: Path) -> None:
    """Remove a directory whole. A process that is killed here leaves no part of it under its name."""
    with scratch(path) as temporary:
        os.replace(path, temporary)


def remove_temporary(directory: Path) -> None:
    """Delete what a killed writer has left in `directory`, and put back what it had moved aside."""
    _put_back(directory)
    for path in directory.glob(TEMPORARY):
        _remove(path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream whose content takes the place of `path`, flushed to the disk."""
    with replacing(path, sync=True) as temporary, temporary.open("wb") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises UserError if the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}). Restore a copy of it, or start over in another place") from None


def append_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add one line per row to a JSON Lines file."""
    with path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def lines_of(path: Path) -> list[str]:
    """The lines of a JSON Lines file. Texts may hold U+2028 or U+0085, at which `splitlines` would cut."""
    return [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, without lines that a crash has cut short. No file has no rows."""
    rows = []
    for line in lines_of(path) if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


class Lock:
    """A lock file that one process holds at a time. The system frees it when the process ends, however it ends."""

    def __init__(self, path: Path, busy: str) -> None:
        """Take the lock. Raises UserError with the text `busy` if another holder has it."""
        from filelock import FileLock, Timeout  # slow to import, and few commands need it

        self._path = path
        self._held = FileLock(path, timeout=0)
        try:
            self._held.acquire()
        except Timeout:
            raise UserError(busy) from None

    def release(self) -> None:
        """Let go of the lock and delete its file."""
        with contextlib.suppress(OSError):
            self._path.unlink()  # while it is held, so that it is not the file of the next holder
        self._held.release()
        if os.name == "nt":  # there the file could not be deleted before
            with contextlib.suppress(OSError):
                self._path.unlink()
