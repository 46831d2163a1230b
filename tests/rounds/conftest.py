"""One tiny world for the tests of rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from rounds.place import Place
from stages import worlds


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which every user has sent two prompts."""
    made = Place(tmp_path_factory.mktemp("sent"), Path("nowhere"))
    made.send(2)
    made.store.close()
    return made.folder / "heedful.db"
