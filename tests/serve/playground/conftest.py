from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serve.playground.scripted import Play


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Callable[..., Play]]:
    """Makes a server with models of these names."""
    made: list[Play] = []

    def make(*names: str) -> Play:
        made.append(Play(tmp_path, *names))
        return made[-1]

    yield make
    for play in made:
        play.store.close()
