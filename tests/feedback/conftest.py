"""Stores to test on: everything about the database is tested on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

import postgres
from heedful.feedback import items
from heedful.feedback.store import Store

from .team import empty

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def refs_follow_from_the_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which answers are shown is drawn from an item's secret ref; here the same ones in every run."""
    draw = Random(request.node.name)
    monkeypatch.setattr(items, "secrets", SimpleNamespace(token_urlsafe=lambda size: draw.randbytes(size).hex()))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server's URL with `{}` for the database; `template_heedful` has the tables."""
    with postgres.server() as url:
        admin = sa.create_engine(_driver(url.format("postgres")), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("create database template_heedful")
        admin.dispose()
        Store.open(url.format("template_heedful")).close()
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "heedful.db"
    Store.open(path).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes new stores with tables and nothing in them."""
    opened: list[Store] = []

    def sqlite() -> Store:
        path = tmp_path / f"store-{next(_numbers)}.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        return Store.open(path)

    def postgresql() -> Store:
        return Store.open(new_database(request.getfixturevalue("postgres_url")))

    def make() -> Store:
        opened.append({"sqlite": sqlite, "postgresql": postgresql}[request.param]())
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def shared_postgres(postgres_url: str) -> Iterator[Store]:
    """One database that tests empty and use after each other: a new one each time would take a second."""
    store = Store.open(new_database(postgres_url))
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with tables and nothing in them."""
    if request.param == "sqlite":
        path = tmp_path / "heedful.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        store = Store.open(path)
        yield store
        store.close()
    else:
        store = request.getfixturevalue("shared_postgres")
        empty(store)
        yield store


def new_database(url: str, template: str | None = "template_heedful") -> str:
    """The URL of a new database."""
    name = f"test_{next(_numbers)}"
    admin = sa.create_engine(_driver(url.format("postgres")), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name}" + (f" template {template}" if template else ""))
    admin.dispose()
    return url.format(name)


def _driver(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:")
