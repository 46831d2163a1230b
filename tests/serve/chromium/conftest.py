"""The playground in Chromium, with models that say what a test tells them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from serve.chromium.table import Table
from serve.playground.scripted import Play, Scripted
from web.browser.fixtures import browser, context
from web.browser.place import Server

__all__ = ["browser", "context"]  # fixtures


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Play, Server]]:
    play = Play(tmp_path_factory.mktemp("played"), "red", "sft-2")
    server = Server.of(play.app)
    yield play, server
    server.stop()
    play.store.close()


@pytest.fixture
def table(play: tuple[Play, Server], context: BrowserContext) -> Iterator[Table]:
    """Nothing the page does may break a policy, raise an error, or ask anybody but the server."""
    for model in play[0].models.values():
        model.__dict__.update(Scripted().__dict__)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = Table(*play, context)
    yield found
    assert [url for url in found.requests if not url.startswith(found.server.address)] == []
    assert found.problems == []
