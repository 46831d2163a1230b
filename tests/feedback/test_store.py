"""Opening and transactions, on both databases."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from heedful.config import UserError
from heedful.feedback import migrate, people, projects
from heedful.feedback import store as store_module
from heedful.feedback.columns import canonical
from heedful.feedback.schema import Assignment, Base, Item, Person, Project
from heedful.feedback.store import Store

from .conftest import new_database

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def test_what_was_written_is_there_after_opening_again(store: Store) -> None:
    with store.writing() as db:
        people.add_person(db, "ada", None, NOW)
    url = store.engine.url.render_as_string(hide_password=False)
    again = Store.open(url.replace("+psycopg", ""))
    with again.reading() as db:
        assert [person.name for person in db.scalars(sa.select(Person))] == ["ada"]
    again.close()


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing() as db:
            people.add_person(db, "ada", None, NOW)
            raise KeyError("a fault of the caller")

    with pytest.raises(KeyError):
        fail()
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Person)) == 0


def test_reading_keeps_nothing(store: Store) -> None:
    with store.reading() as db:
        people.add_person(db, "ada", None, NOW)
    with store.reading() as db:
        assert people.person_named(db, "ada") is None


def test_times_come_back_aware_and_in_utc(store: Store) -> None:
    with store.writing() as db:
        there = NOW.astimezone(timezone(timedelta(hours=5)))
        ada = people.add_person(db, "ada", None, there)
    with store.reading() as db:
        created = db.get_one(Person, ada.id).created
        assert created == NOW
        assert created.utcoffset() == timedelta(0)


def test_json_holds_what_text_of_postgresql_refuses(store: Store) -> None:
    """Null characters and half surrogates, which hostile models and careless files bring along."""
    nasty = {"x": "null \0 half \ud800 end", "é": [1.5, None, True]}
    with store.writing() as db:
        project = projects.create(db, "p", NOW)
        db.execute(sa.update(Project).values(settings=nasty))
    with store.reading() as db:
        assert db.scalar(sa.select(Project.settings).where(Project.id == project.id)) == nasty
    assert canonical({"b": 1, "a": "é"}) == r'{"a":"\u00e9","b":1}'


def test_foreign_keys_are_kept(store: Store) -> None:
    def strand() -> None:
        with store.writing() as db:
            db.execute(sa.text("insert into membership (project_id, person_id, role, phase, served, joined) "
                               "values (1, 1, 'lead', 'work', 0, '2026-01-01')"))  # fmt: skip

    with pytest.raises(sa.exc.IntegrityError):
        strand()


def test_writers_wait_for_each_other(store: Store) -> None:
    """Twenty threads read a number and write the next: none is lost."""
    with store.writing() as db:
        project = projects.create(db, "p", NOW, settings={"lease_minutes": 1})

    def count() -> None:
        with store.writing() as db:
            minutes = projects.ProjectSettings.model_validate(projects.lock(db, project.id).settings).lease_minutes
            projects.change_settings(db, project.id, {"lease_minutes": minutes + 1})

    threads = [threading.Thread(target=count) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as db:
        assert projects.settings(db, project.id).lease_minutes == 21


def test_migrations_make_the_tables_of_the_schema(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_make_the_indexes_of_the_schema(tmp_path: Path) -> None:
    """In SQLite's own words, so that partial ones and directions count."""
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    store = Store.open(tmp_path / "h.db")
    found = []
    for made in (engine, store.engine):
        with made.connect() as connection:
            rows = connection.execute(sa.text("select name, sql from sqlite_master where type = 'index' and sql > ''"))
            found.append({name: " ".join(sql.split()) for name, sql in rows})
    engine.dispose()
    store.close()
    assert len(found[0]) > 15
    assert found[0] == found[1]


def test_an_empty_postgresql_gets_its_tables(postgres_url: str) -> None:
    fresh = Store.open(new_database(postgres_url, template=None))
    with fresh.writing() as db:
        assert people.add_person(db, "ada", None, NOW).id == 1
    fresh.close()


def test_the_settings_of_sqlite(tmp_path: Path, own_pragmas: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PRAGMAS", own_pragmas)
    store = Store.open(tmp_path / "h.db")
    with store.reading() as db:
        got = {name: db.scalar(sa.text(f"pragma {name}")) for name in ("journal_mode", "synchronous", "secure_delete")}
    assert got == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}  # 2: full
    store.close()


def test_what_comes_one_after_the_other_takes_one_connection(tmp_path: Path) -> None:
    """Each connection caches the pages that it has read. After many at once, the others would hold copies of them."""
    store = Store.open(tmp_path / "h.db")
    with store.reading() as first, store.reading() as second, store.reading() as third:
        assert [db.scalar(sa.select(1)) for db in (first, second, third)] == [1, 1, 1]
    used = set()
    for _ in range(6):
        with store.reading() as db:
            used.add(id(db.connection().connection.dbapi_connection))
    assert len(used) == 1
    store.close()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("mysql://u@h/d", "not a database heedful knows"),
        ("postgresql://nobody@127.0.0.1:9/none", "cannot be opened"),
        ("nowhere/at/all.db", "cannot be opened"),
        ("post gres://", "not the URL of a database"),
        ("postgresql://localhost:abc/x", "not the URL of a database"),
        ("", "'': a database there would not be kept"),
        (":memory:", "a database there would not be kept"),
        ("sqlite://", "a database there would not be kept"),
        ("sqlite:///:memory:", "a database there would not be kept"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(
    where: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as told:
        Store.open(where)
    assert "\n" not in str(told.value)


def test_a_missing_file_is_made_only_where_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such database"):
        Store.open(tmp_path / "h.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_new_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OperationalError("create", {}, sqlite3.OperationalError("database or disk is full"))

    Store.open(tmp_path / "old.db").close()
    monkeypatch.setattr(migrate, "upgrade", full)
    for name in ("new.db", "old.db"):
        with pytest.raises(
            UserError, match=rf"{name}: cannot be opened \(database or disk is full\)\. Free some space"
        ):
            Store.open(tmp_path / name)
    assert not list(tmp_path.glob("new.db*"))
    assert (tmp_path / "old.db").exists()


@pytest.mark.parametrize("reason", ["database or disk is full", "database is locked"])
def test_what_another_process_has_made_meanwhile_stays(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes start on one new file, and the second one fails."""
    kept = tmp_path / "new.db"

    def late(*_: object, **__: object) -> None:
        with contextlib.closing(sqlite3.connect(kept)) as other, other:
            other.execute("create table person (name text)")
        raise OperationalError("create", {}, sqlite3.OperationalError(reason))

    monkeypatch.setattr(migrate, "check", late)
    with pytest.raises(UserError, match=reason):
        Store.open(kept)
    with contextlib.closing(sqlite3.connect(kept)) as again:
        assert again.execute("select name from sqlite_master").fetchall() == [("person",)]


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("tables", [("notes",), ("notes", "alembic_version"), ("person", "event")])
def test_a_database_of_another_program_stays_as_it_is(tmp_path: Path, tables: tuple[str, ...], create: bool) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        for table in tables:
            other.execute(f"create table {table} (version_num)")
            other.execute(f"insert into {table} values ('0001')")
    before = path.read_bytes()
    with pytest.raises(UserError) as told:
        Store.open(path, create=create)
    shown = ", ".join(sorted(tables))
    assert str(told.value) == f"{path}: not a database of heedful (tables: {shown}). Give another one"
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]


def test_another_programs_postgresql_stays_as_it_is(postgres_url: str) -> None:
    url = new_database(postgres_url, template=None)
    other = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with other.begin() as connection:
        connection.exec_driver_sql("create table notes (text text)")
    with pytest.raises(UserError, match=r"not a database of heedful \(tables: notes\). Give another one"):
        Store.open(url)
    assert sa.inspect(other).get_table_names() == ["notes"]
    other.dispose()


def test_an_empty_database_gets_tables_only_where_asked(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "h.db").touch()
    for where in (tmp_path / "h.db", new_database(postgres_url, template=None)):
        with pytest.raises(UserError, match=r"not a database of heedful \(tables: none\)"):
            Store.open(where, create=False)
    assert (tmp_path / "h.db").read_bytes() == b""
    Store.open(tmp_path / "h.db").close()
    Store.open(tmp_path / "h.db", create=False).close()


@pytest.mark.medium
def test_other_files_and_later_databases_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("These are notes, and no database of anything at all.\n" * 40)
    with pytest.raises(UserError, match="cannot be opened"):
        Store.open(tmp_path / "notes.txt")
    Store.open(tmp_path / "h.db").close()
    with sqlite3.connect(tmp_path / "h.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    with pytest.raises(UserError, match="written by a later heedful"):
        Store.open(tmp_path / "h.db")


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_leases_of_the_first_tables_are_carried_over(tmp_path: Path, postgres_url: str, kind: str) -> None:
    """Leases were counted in the caches of items; a lapsed one was a state, whatever its time."""
    url = new_database(postgres_url, template=None) if kind == "postgresql" else f"sqlite:///{tmp_path / 'h.db'}"
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    later = NOW + timedelta(days=365_000)
    with engine.begin() as connection, Session(connection) as db:
        migrate.upgrade(connection, "0001")
        db.execute(sa.insert(Person), [{"id": number, "name": f"{number}", "created": NOW} for number in (1, 2)])
        db.add(Project(id=1, name="p", title="p", settings={}, created=NOW))
        db.flush()
        for number, wanted, taken, had_by in ((1, 2, 2, "|1|2|"), (2, 1, 1, "|1|"), (3, 1, 0, "")):
            row = {"id": number, "ref": f"{number}", "project_id": 1, "kind": "ranking", "purpose": "train",
                "payload": {"prompt": f"Why  TEA {number}?", "use_case": "chat"}, "created": NOW, "payload_sha256": "",
                "prompt_sha256": "", "texts_sha256": "", "draw": 0.5, "double_draw": 0.5, "rank": 0.5,
                "wanted": wanted, "taken": taken, "had_by": had_by, "open": taken < wanted}  # fmt: skip
            db.execute(sa.insert(Item), [row])  # the columns of that time alone
        for number, person, state in ((1, 1, "done"), (1, 2, "live"), (2, 1, "live"), (3, 2, "lapsed")):
            given = {"token": f"{number}/{person}", "project_id": 1, "item_id": number, "person_id": person}
            given |= {"kind": "ranking", "order": [0], "state": state, "created": NOW, "expires": later}
            db.execute(sa.insert(Assignment), [given])
    engine.dispose()
    store = Store.open(url)
    with store.reading() as db:
        found = [tuple(row) for row in db.execute(sa.select(Item.taken, Item.had_by, Item.open).order_by(Item.id))]
        assert found == [(1, "|1|", True), (0, "", True), (0, "", True)]
        found = db.execute(sa.select(Item.searched, Item.use_case, Item.flags, Item.disagreement).order_by(Item.id))
        assert [tuple(row) for row in found] == [(f"why tea {n}?", "chat", "", None) for n in (1, 2, 3)]
        chosen = sa.select(Assignment.state, Assignment.expires > datetime.now(UTC)).order_by(Assignment.token)
        assert [tuple(row) for row in db.execute(chosen)] == [
            ("done", True), ("leased", True), ("leased", True), ("leased", False),
        ]  # fmt: skip
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h:secretpw@127.0.0.1:54x2/db",
        "postgresql://h:secret/w%rd@127.0.0.1/db",
        "postgresql://h:p@secret/w%rd@127.0.0.1/db",
        "postgresql://h:secret#w@127.0.0.1/db",
        "postgresql://h:secret?w@127.0.0.1/db",
        "postgresql://h:secretpw@127.0.0.1:1/db",
        "postgresql://h@127.0.0.1:1/db?password=secretpw",
        "postgresql://h:secretpw",
        "mysql://h:secretpw@127.0.0.1/db",
    ],
)
def test_no_part_of_a_password_is_in_a_message(url: str) -> None:
    with pytest.raises(UserError) as error:
        Store.open(url)
    assert "secret" not in str(error.value)
    assert "w%rd" not in str(error.value)
    assert "%40" in str(error.value) or ":secret" not in url or url.startswith("mysql")
    assert "\n" not in str(error.value)


def test_a_url_is_shown_by_its_place() -> None:
    shown = {
        "heedful.db": "heedful.db",
        "postgresql://db/heedful": "postgresql://db/heedful",
        "postgresql://u:p@[::1]:5432/h?sslmode=require": "postgresql://***@[::1]:5432/h",
        "postgresql:///h?host=/run": "postgresql:///h",
    }
    assert {url: store_module.shown(url) for url in shown} == shown
