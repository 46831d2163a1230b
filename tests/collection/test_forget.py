"""A forgotten user is in no page of the database, no log and no file, but for what a run has read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heedful.cli import main
from heedful.collection import forget, react
from heedful.config import Config, UserError
from heedful.feedback import chats, events, people, projects, snapshots
from heedful.feedback.collected import Exchange, ServedUser
from heedful.feedback.schema import FrozenSnapshot
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store
from heedful.runs.manifest import Manifest

from .served import START, exchange, keep

CANARY = "zanzibar-canary"


def say_much(store: Store, user: str, word: str = CANARY) -> None:
    """An exchange with a thumb and an edit, and a pick. Every text holds the word."""
    keep(store, exchange(f"of {user}", user, prompt=f"A {word}?", messages=None, answers=[f"{word}!", "No."]))
    with store.writing() as db:
        react.thumb(db, f"of {user}", user, True, ["helpful"], f"Nice {word}.", now=START)
        react.thumb(db, f"of {user}", user, False, ["wrong"], f"Bad {word}.", now=START)
        react.edit(db, f"of {user}", user, f"A better {word}.", now=START)
        sides = react.Side(f"Left {word}", "m", {}), react.Side(f"Right {word}", "n", {})
        react.pick(db, user, f"Which {word}?", *sides, "left", blind=True, now=START)


def freeze(store: Store, folder: Path, records: Any) -> FrozenSnapshot:
    with store.reading() as db:
        project = projects.by_name(db, react.PROJECT)
        assert project is not None
    return snapshots.freeze(store, project.id, folder / records, Filters(records=records), START, by=None)


def read_by_a_run(folder: Path, frozen: FrozenSnapshot) -> None:
    run = folder / "runs" / "reward"
    run.mkdir(parents=True)
    Manifest.begin("reward", Config(), {}, {"data": {"path": frozen.path, "sha256": frozen.sha256}}).write(
        run / "manifest.json"
    )


def holding(folder: Path, word: str = CANARY) -> list[str]:
    """Files with the word, of the whole folder: the database with its log, too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "heedful.db" for path in files)
    return sorted(str(path.relative_to(folder)) for path in files if word.encode() in path.read_bytes())


@pytest.mark.medium
def test_a_forgotten_user_leaves_nothing_but_what_runs_have_read(store: Store, folder: Path) -> None:
    say_much(store, "ada")
    say_much(store, "bob", "tortoise")
    with store.writing() as db:
        ada = people.person_named(db, "ada")
        assert ada is not None
        chats.create(db, ada.id, f"A chat about {CANARY}", {}, START)
    used, unused = freeze(store, folder, "thumb"), freeze(store, folder, "pick")
    read_by_a_run(folder, used)
    assert "heedful.db" in " ".join(holding(folder))
    gone = forget.forget(store, "ada", [folder], START, by=None)
    assert holding(folder) == ["thumb/records.jsonl"]
    assert (gone.exchanges, gone.items, gone.chats) == (1, 3, 1)
    assert gone.snapshots == (unused.path,)
    assert gone.used == ((used.path, (str(folder / "runs" / "reward"),)),)
    assert gone.lines()[1] == "1 chat of the playground is gone"
    assert gone.lines()[3].startswith(f"{used.path}: holds some. It stays, because these were made from it: ")
    with store.reading() as db:
        assert list(db.scalars(sa.select(Exchange.id))) == ["of bob"]
        assert [frozen.path for frozen in db.scalars(sa.select(FrozenSnapshot))] == [used.path]
        events.verify_all(db)
    with store.reading() as db:
        assert people.person_named(db, "ada") is not None
    assert {row["judgements"] for row in _standing(store)} == {3}


def _standing(store: Store) -> list[dict[str, int]]:
    from heedful.feedback import derive

    with store.writing() as db:
        project = projects.by_name(db, react.PROJECT)
        assert project is not None
        assert derive.rebuild(db, project.id) == 0
        return [{"judgements": sum(day.judgements for day in derive.days(db, project.id))}]


@pytest.mark.medium
def test_one_user_of_a_program_is_forgotten_and_the_others_stay(store: Store, folder: Path) -> None:
    say_much(store, "ada/7")
    say_much(store, "ada/8", "tortoise")
    forget.forget(store, "ada/7", [folder], START, by=None)
    assert holding(folder) == []
    with store.reading() as db:
        assert list(db.scalars(sa.select(ServedUser.name))) == ["8"]
    with pytest.raises(UserError, match="no account has this name"):
        forget.forget(store, "eve", [folder], START, by=None)


@pytest.mark.medium
def test_a_folder_that_is_another_snapshot_by_now_stays(store: Store, folder: Path) -> None:
    say_much(store, "ada")
    frozen = freeze(store, folder, "pick")
    manifest = Path(frozen.path) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(frozen.sha256, "0" * 64))
    gone = forget.forget(store, "ada", [folder], START, by=None)
    assert (gone.changed, gone.snapshots, manifest.exists()) == ((frozen.path,), (), True)


@pytest.mark.medium
def test_a_snapshot_outside_of_the_folder_stays_and_is_named(
    store: Store, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    say_much(store, "ada")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    frozen = freeze(store, elsewhere, "pick")
    gone = forget.forget(store, "ada", [folder], START, by=None)
    assert (gone.snapshots, gone.used) == ((), ((frozen.path, ("runs outside of the folder, perhaps",)),))
    assert holding(folder) == []
    say_much(store, "ada")
    (elsewhere / "pick" / "records.jsonl").unlink()  # nothing is left of it
    (elsewhere / "pick" / "manifest.json").unlink()
    assert forget.forget(store, "ada", [folder], START, by=None).used == ()


@pytest.mark.medium
def test_deleting_an_account_forgets_its_user(store: Store, folder: Path) -> None:
    say_much(store, "ada")
    used = freeze(store, folder, "edit")
    read_by_a_run(folder, used)
    with store.reading() as db:
        ada, lea = people.person_named(db, "ada"), people.person_named(db, "lea")
    assert ada is not None
    assert lea is not None
    assert forget.delete_account(store, ada.id, [folder], START, by=lea.id) == [used.path]
    assert holding(folder) == ["edit/records.jsonl"]
    with pytest.raises(UserError, match="leads a project alone"):
        forget.delete_account(store, lea.id, [folder], START, by=lea.id)


@pytest.mark.medium
def test_the_command_says_what_is_gone(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_much(store, "ada")
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["forget", "--user", "ada"])
    assert (ended.value.code, capsys.readouterr().out) == (0, "1 exchange and 3 reactions and items are gone\n")
    with pytest.raises(SystemExit) as ended:
        main(["forget", "--user", "eve"])
    assert ended.value.code == 2
    assert "eve: no account has this name" in capsys.readouterr().err
