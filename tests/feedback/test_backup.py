"""The whole database into one file, and back into either kind of database."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heedful import files
from heedful.config import UserError
from heedful.feedback import backup, events, snapshots
from heedful.feedback.schema import Base, Event
from heedful.feedback.store import Store

from .conftest import new_database
from .team import Team


def contents(store: Store) -> dict[str, list[Any]]:
    with store.reading() as db:
        return {
            table.name: [tuple(row) for row in db.execute(sa.select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def change(path: Path, *statements: str) -> None:
    """Without heedful."""
    with closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            file.execute(statement)


@pytest.fixture
def team(store: Store, tmp_path: Path) -> Team:
    """With something in most tables."""
    team = Team(store, "ada", "bob", double_share=1.0)
    team.rankings(3)
    team.prompts(2)
    team.work("ada", 4, seconds=1.5)
    team.undo("ada")
    team.skip("bob", team.task("bob"))
    filters = snapshots.Filters(records="comparison")
    snapshots.freeze(store, team.project, tmp_path / "s", filters, team.now, by=None)
    return team


@pytest.mark.medium
@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_what_is_restored_is_what_was_backed_up(
    team: Team, tmp_path: Path, target: str, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "backup.db"
    assert backup.backup(team.store, file) == 6
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["backup.db"]
    where = tmp_path / "new.db" if target == "sqlite" else new_database(request.getfixturevalue("postgres_url"))
    assert backup.restore(file, where) == 6
    restored = Store.open(where)
    assert contents(restored) == contents(team.store)
    team.store = restored
    with restored.reading() as db:
        assert events.verify(db, team.project) == 6
    team.work("bob", 2)  # ids go on where they were
    team.rankings(1, start=50)
    team.join("cyd")
    restored.close()


@pytest.mark.medium
def test_a_backup_is_made_while_people_work(team: Team, tmp_path: Path) -> None:
    stop = threading.Event()
    team.rankings(200, start=10)

    def label() -> None:
        while not stop.is_set():
            team.work("ada")

    thread = threading.Thread(target=label)
    thread.start()
    try:
        counts = [backup.backup(team.store, tmp_path / f"{number}.db") for number in range(3)]
    finally:
        stop.set()
        thread.join()
    assert counts == sorted(counts)
    for number, count in enumerate(counts):
        copy = Store.open(tmp_path / f"{number}.db")
        with copy.reading() as db:
            assert events.verify(db, team.project) == count
        copy.close()


@pytest.mark.medium
def test_no_backup_is_made_of_a_chain_that_does_not_fit(team: Team, tmp_path: Path) -> None:
    (event, *_) = team.rows(Event.id)
    with team.store.writing() as db:
        db.execute(sa.update(Event).where(Event.id == event.id).values(seconds=7.0))
    with pytest.raises(
        UserError, match=rf"project tea, event {event.id}: does not fit its hash\. .* No backup was made"
    ):
        backup.backup(team.store, tmp_path / "b.db")
    assert list(tmp_path.glob("*b.db*")) == []


@pytest.mark.medium
def test_nothing_is_overwritten(team: Team, tmp_path: Path) -> None:
    backup.backup(team.store, tmp_path / "b.db")
    with pytest.raises(UserError, match="already exists"):
        backup.backup(team.store, tmp_path / "b.db")
    with pytest.raises(UserError, match="already exists"):
        backup.restore(tmp_path / "b.db", tmp_path / "b.db")
    (tmp_path / "gone.db-wal").touch()
    with pytest.raises(UserError, match=r"gone\.db-wal: already exists. Choose another name"):
        backup.backup(team.store, tmp_path / "gone.db")
    with pytest.raises(UserError, match=r"gone\.db-wal: already exists. Move it away"):
        backup.restore(tmp_path / "b.db", tmp_path / "gone.db")


@pytest.mark.medium
@pytest.mark.parametrize("place", ["/", ".", "..", ""])
def test_a_place_without_a_name_is_refused(team: Team, tmp_path: Path, place: str) -> None:
    file = tmp_path / "b.db"
    backup.backup(team.store, file)
    for attempt in (lambda: backup.restore(file, place), lambda: backup.backup(team.store, place)):
        with pytest.raises(UserError, match="already exists") as told:
            attempt()
        assert "\n" not in str(told.value)


@pytest.mark.medium
def test_what_is_no_whole_backup_is_blamed_and_nothing_is_left(team: Team, tmp_path: Path, postgres_url: str) -> None:
    backup.backup(team.store, tmp_path / "b.db")
    whole = (tmp_path / "b.db").read_bytes()
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "notes.txt").write_text("These are notes, and no database of anything at all.\n" * 40)
    (folder / "empty.db").touch()
    (folder / "cut.db").write_bytes(whole[: len(whole) // 2])
    (folder / "start.db").write_bytes(whole[:60])
    (folder / "holes.db").write_bytes(whole[:8192] + b"\xa5" * 8192 + whole[16384:])
    change(folder / "other.db", "create table notes (text)")
    backup.restore(tmp_path / "b.db", folder / "later.db")
    change(folder / "later.db", "update alembic_version set version_num = '9999'")
    url = new_database(postgres_url, template=None)
    for name, words in {
        "notes.txt": "damaged, or no backup (file is not a database). Take another backup",
        "empty.db": "not a database of heedful (tables: none). Give another one",
        "cut.db": "damaged, or no backup (database disk image is malformed). Take another backup",
        "start.db": "damaged, or no backup (",
        "holes.db": "damaged, or no backup (",
        "other.db": "not a database of heedful (tables: notes). Give another one",
        "later.db": "written by a later heedful. Upgrade heedful",
        "none.db": "no such file. Check the path",
    }.items():
        for where in (tmp_path / "new" / "r.db", url):
            with pytest.raises(UserError, match=re.escape(f"{folder / name}: {words}")) as told:
                backup.restore(folder / name, where)
            assert "\n" not in str(told.value)
        assert list((tmp_path / "new").glob("*")) == []
    assert backup.restore(tmp_path / "b.db", url) == 6


@pytest.mark.medium
def test_what_stands_in_the_log_beside_a_file_is_restored(tmp_path: Path, sqlite_template: Path) -> None:
    """As a killed server leaves it, or as both are copied while people work."""
    left = tmp_path / "left" / "heedful.db"
    left.parent.mkdir()
    shutil.copyfile(sqlite_template, tmp_path / "heedful.db")
    team = Team(Store.open(tmp_path / "heedful.db"), "ada")
    team.rankings(5)
    team.work("ada", 5)
    for end in ("", "-wal"):
        shutil.copyfile(tmp_path / f"heedful.db{end}", f"{left}{end}")
    team.store.close()
    before = {end: Path(f"{left}{end}").read_bytes() for end in ("", "-wal")}
    assert before["-wal"]
    assert backup.restore(left, tmp_path / "new.db") == 5
    assert {end: Path(f"{left}{end}").read_bytes() for end in ("", "-wal")} == before
    left.write_text("These are notes, and no database of anything at all.\n" * 40)
    with pytest.raises(UserError, match=r"left/heedful\.db: cannot be read together with heedful\.db-wal \("):
        backup.restore(left, tmp_path / "other.db")
    assert not list(tmp_path.glob("*other.db*"))


def test_of_a_damaged_database_no_backup_is_made(tmp_path: Path, sqlite_template: Path) -> None:
    path = tmp_path / "heedful.db"
    shutil.copyfile(sqlite_template, path)
    store = Store.open(path)
    Team(store, "ada").rankings(50)
    store.close()
    with closing(sqlite3.connect(path)) as file:
        (size,) = file.execute("pragma page_size").fetchone()
        (root,) = file.execute("select rootpage from sqlite_master where name = 'item'").fetchone()
    with path.open("r+b") as pages:
        pages.seek((root - 1) * size)
        pages.write(b"\xa5" * size)
    store = Store.open(path)
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged (")) as told:
        backup.backup(store, tmp_path / "b.db")
    store.close()
    assert "\n" not in str(told.value)
    assert str(told.value).endswith("No backup was made of it. Restore an earlier one")
    assert not list(tmp_path.glob("*b.db*"))


@pytest.mark.medium
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("file/b.db", "/file: File exists. Choose another path: a file is where a folder is needed$"),
        ("closed/b.db", r"/closed/b\.db: Permission denied. Choose another path, or change the permissions$"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, words: str
) -> None:
    (tmp_path / "file").write_text("")
    backup.backup(team.store, tmp_path / "good.db")
    touch = Path.touch

    def guarded(path: Path) -> None:
        if path.parent.name == "closed":  # nothing is closed to whoever is root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        touch(path)

    monkeypatch.setattr(Path, "touch", guarded)
    with pytest.raises(UserError, match=words):
        backup.backup(team.store, tmp_path / where)
    with pytest.raises(UserError, match=words):
        backup.restore(tmp_path / "good.db", tmp_path / where)


@pytest.mark.medium
def test_a_disk_that_gets_full_in_sqlite_is_told(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backup, "_copy_file", fail)
    monkeypatch.setattr(backup, "_copy_tables", fail)
    with pytest.raises(UserError, match=r"b\.db: cannot be written \(database or disk is full\). Free some space"):
        backup.backup(team.store, tmp_path / "b.db")
    assert not list(tmp_path.glob("*b.db*"))


@pytest.mark.medium
def test_a_database_with_data_is_not_restored_into(
    make_store: Callable[[], Store], tmp_path: Path, postgres_url: str
) -> None:
    store = make_store()
    Team(store, "ada")
    backup.backup(store, tmp_path / "b.db")
    url = new_database(postgres_url)
    backup.restore(tmp_path / "b.db", url)
    with pytest.raises(UserError, match="holds data already"):
        backup.restore(tmp_path / "b.db", url)


@pytest.mark.medium
def test_a_failed_backup_leaves_nothing(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(UserError, match=r"/b\.db: No space left on device. Free some space"):
        backup.backup(team.store, tmp_path / "b.db")
    assert not list(tmp_path.glob("*b.db*"))
    with team.store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Event)) == 6
