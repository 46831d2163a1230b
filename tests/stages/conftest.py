"""One tiny world for all tests of the stages."""

from __future__ import annotations

import pytest

from stages import worlds
from stages.turns import Turn


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def turn(files: worlds.Files) -> Turn:
    return Turn(worlds.config("ppo", files))
