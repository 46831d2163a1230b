from __future__ import annotations

from pathlib import Path

import pytest

from heedful.endpoints import client


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, no key, and waits that a test can afford."""
    monkeypatch.setenv("HEEDFUL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(client.KEY, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
