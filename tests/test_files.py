"""Writing whole or not at all, locks, and JSON Lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heedful import files
from heedful.config import UserError


def fill(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "weights").write_text(text)


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with files.replacing(tmp_path / "model") as temporary:
            fill(temporary, text)
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_directory_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The first rename moves the old directory aside, the second puts the new one in place."""
    fill(tmp_path / "model", "old")
    replace, calls = os.replace, iter(range(1, 9))

    def fail(source: Path, target: Path) -> None:
        if next(calls) == failing:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"), files.replacing(tmp_path / "model") as temporary:
        fill(temporary, "new")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_what_fails_half_way_leaves_the_old_content(tmp_path: Path) -> None:
    def write_half() -> None:
        with files.writing(tmp_path / "x") as stream:
            stream.write(b"new")
            raise KeyError

    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyError):
        write_half()
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]
    with files.writing(tmp_path / "x") as stream:
        stream.write(b"new")
    assert (tmp_path / "x").read_text() == "new"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    files.write_json(file, {"a": 1})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write_json(file, {"a": 2})
    assert files.read_json(file) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"status": "run')
    with pytest.raises(UserError, match=r"x\.json: damaged \(.*\)\. Restore a copy"):
        files.read_json(tmp_path / "x.json")


def test_rows_survive_odd_ends_of_lines_and_a_line_cut_short(tmp_path: Path) -> None:
    rows = [{"text": "one\u2028two\u0085three"}, {"text": "four"}]
    for row in rows:
        files.append_rows(tmp_path / "x.jsonl", [row])
    with (tmp_path / "x.jsonl").open("a") as stream:
        stream.write('[1]\n{"text": "fi')
    assert files.rows_of(tmp_path / "x.jsonl") == rows
    assert files.rows_of(tmp_path / "none.jsonl") == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (".x.json.12.tmp", "kept.json"):
        (tmp_path / name).touch()
    for name in (".model.12.tmp", ".model.12.old", "model"):
        fill(tmp_path / name, name)
    files.remove_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["kept.json", "model"]
    assert (tmp_path / "model" / "weights").read_text() == "model"


KILLED_BETWEEN_TWO_RENAMES = """
import os, signal, sys
from pathlib import Path
from heedful import files
calls, replace = [], os.replace
def replace_once(source, target):
    calls.append(target)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_once
with files.replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "weights").write_text("new")
"""


@pytest.mark.parametrize("then", ["tidied", "written"])
def test_a_directory_moved_aside_by_a_killed_writer_comes_back(tmp_path: Path, then: str) -> None:
    model = tmp_path / "model"
    fill(model, "old")
    subprocess.run([sys.executable, "-c", KILLED_BETWEEN_TWO_RENAMES, str(model)], check=False)
    assert not model.exists()
    if then == "tidied":
        files.remove_temporary(tmp_path)
    else:
        with pytest.raises(KeyError), files.replacing(model):
            raise KeyError
        files.remove_temporary(tmp_path)
    assert (model / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_what_is_synced_reaches_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    replace, fsync = os.replace, os.fsync

    def synced(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", renamed)
    with files.replacing(tmp_path / "model", sync=True) as temporary:
        fill(temporary, "new")
    assert events == ["weights", temporary.name, "rename", tmp_path.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from heedful.files import Lock
Lock(Path(sys.argv[1]), "busy")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.exists()
    held = files.Lock(path, "busy")
    with pytest.raises(UserError, match="busy"):
        files.Lock(path, "busy")
    held.release()
    assert not path.exists()
    files.Lock(path, "busy").release()
