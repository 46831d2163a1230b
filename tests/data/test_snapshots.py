"""Frozen records: verified on every reading, never changed, never half there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Comparison, Demonstration, Prompt
from heedful.data.snapshots import freeze, open_snapshot

RANKED = [
    Comparison(prompt="p", completions=["a", "b"], ranking=[[1], [0]], labeler="ann", group="training"),
    Comparison(prompt="q", completions=["a", "b", "c"], ranking=[[0], [1, 2]], labeler="bob", group="held-out"),
]


def test_a_snapshot_is_read_in_place_of_a_file(tmp_path: Path) -> None:
    frozen = freeze(RANKED, tmp_path / "s", {"group": ["training", "held-out"]})
    assert formats.read(tmp_path / "s", Comparison) == RANKED
    assert formats.read(frozen.path, Comparison) == RANKED
    digest = formats.sha256(tmp_path / "s" / "records.jsonl")
    assert formats.fingerprint(tmp_path / "s") == {"path": str(tmp_path / "s"), "sha256": digest, "rows": 2}


def test_opening_gives_what_was_frozen(tmp_path: Path) -> None:
    frozen = freeze(RANKED, tmp_path / "s", {"after": "2024-01-01"})
    assert open_snapshot(tmp_path / "s") == frozen
    assert (frozen.records, frozen.rows, frozen.filters) == ("comparison", 2, {"after": "2024-01-01"})


def test_the_same_records_have_the_same_hash(tmp_path: Path) -> None:
    assert freeze(RANKED, tmp_path / "a").sha256 == freeze(RANKED, tmp_path / "b").sha256
    assert freeze(RANKED[::-1], tmp_path / "c").sha256 != freeze(RANKED, tmp_path / "a").sha256


@pytest.mark.parametrize("act", [open_snapshot, lambda path: formats.read(path, Comparison), formats.fingerprint])
def test_a_changed_snapshot_is_refused(tmp_path: Path, act: object) -> None:
    freeze(RANKED, tmp_path / "s")
    rows = tmp_path / "s" / "records.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"[[1], [0]]", b"[[0], [1]]"))
    with pytest.raises(UserError, match=r"records\.jsonl: changed since it was frozen"):
        act(tmp_path / "s")  # type: ignore[operator]


@pytest.mark.parametrize("manifest", ["", "[]", '{"id": "a run"}'])
def test_a_broken_manifest_is_told(tmp_path: Path, manifest: str) -> None:
    freeze(RANKED, tmp_path / "s")
    (tmp_path / "s" / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match=r"manifest\.json: not "):
        formats.read(tmp_path / "s", Comparison)


def test_a_snapshot_never_changes(tmp_path: Path) -> None:
    first = freeze(RANKED, tmp_path / "s", {"x": 1})
    assert freeze(RANKED, tmp_path / "s", {"x": 1}) == first
    for records, filters in ((RANKED[:1], {"x": 1}), (RANKED, {"x": 2})):
        with pytest.raises(UserError, match="holds another snapshot, and snapshots never change"):
            freeze(records, tmp_path / "s", filters)
    assert open_snapshot(tmp_path / "s") == first
    assert os.listdir(tmp_path) == ["s"]


def test_other_directories_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(UserError):
            freeze(RANKED, tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_a_place_that_cannot_be_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"/file/s: .*\. Choose another path: a file is where a folder is needed$"):
        freeze(RANKED, tmp_path / "file" / "s")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "nothing to freeze, because no row passes the filters. Widen them, or label first."),
        (
            [Prompt(prompt="p"), Demonstration(prompt="p", completion="c")],
            "a snapshot holds one kind of record, not demonstration and prompt rows. Check the filters.",
        ),
    ],
)
def test_a_snapshot_holds_rows_of_one_kind(tmp_path: Path, records: list[Prompt], words: str) -> None:
    with pytest.raises(UserError, match=f"/s: {words}$"):
        freeze(records, tmp_path / "s")
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    broken = Prompt.model_validate({"prompt": "p", "x": float("nan")})
    with pytest.raises(UserError, match="cannot be written as JSON"):
        freeze([broken], tmp_path / "s")
    assert os.listdir(tmp_path) == []


def test_only_snapshots_are_opened(tmp_path: Path) -> None:
    formats.write(tmp_path / "a.jsonl", RANKED)
    with pytest.raises(UserError, match="not a snapshot"):
        open_snapshot(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="not a snapshot"):
        open_snapshot(tmp_path)


def test_the_manifest_is_for_people_too(tmp_path: Path) -> None:
    freeze(RANKED, tmp_path / "s", {"labeler": "łucja"})
    text = (tmp_path / "s" / "manifest.json").read_text(encoding="utf-8")
    assert "łucja" in text
    assert json.loads(text)["rows"] == 2
