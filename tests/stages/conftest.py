"""One tiny world for all tests of the stages."""

from __future__ import annotations

import pytest

from stages import worlds


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> worlds.Files:
    return worlds.make(tmp_path_factory.mktemp("world"))
