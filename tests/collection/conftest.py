"""Stores made from one template: the migrations of each would take half a second."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from heedful.feedback.store import Store

from .served import open_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    open_store(folder, "ada", "bob").close()
    return folder / "heedful.db"


@pytest.fixture
def folder(tmp_path: Path, template: Path) -> Path:
    """A project folder whose database has the accounts lea (who leads the project tea), ada and bob."""
    shutil.copyfile(template, tmp_path / "heedful.db")
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store.open(folder / "heedful.db")
    yield store
    store.close()
