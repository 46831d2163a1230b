"""The whole database into one file, and back into either kind of database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

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


def test_nothing_is_overwritten(team: Team, tmp_path: Path) -> None:
    backup.backup(team.store, tmp_path / "b.db")
    with pytest.raises(UserError, match="already exists"):
        backup.backup(team.store, tmp_path / "b.db")
    with pytest.raises(UserError, match="already exists"):
        backup.restore(tmp_path / "b.db", tmp_path / "b.db")
    (tmp_path / "notes").write_text("notes")
    for path in (tmp_path / "notes", tmp_path / "none"):
        with pytest.raises(UserError, match="not a backup"):
            backup.restore(path, tmp_path / "new.db")


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


def test_a_failed_backup_leaves_nothing(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(backup.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        backup.backup(team.store, tmp_path / "b.db")
    assert not list(tmp_path.glob("*b.db*"))
    with team.store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Event)) == 6
