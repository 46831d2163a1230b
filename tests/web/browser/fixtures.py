"""Fixtures of the browser tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from web.browser import led
from web.browser.place import ARGUMENTS, CHROMIUM, Place, Server, new_place

PATIENCE = 20_000  # milliseconds, for machines that do other things, too
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()
    server.store.close()


@pytest.fixture(scope="session")
def lead_session(server: Server) -> str:
    """Of the lead of a project with weeks of work behind it."""
    return led.populate(server)


@pytest.fixture(scope="module")  # while Playwright runs, no other event loop can, in tests of other modules
def browser() -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing; scripts/browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def place(server: Server, context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Nothing the page does may break a policy, raise an error, or ask anybody but the server."""
    found = new_place(server, context, request.node.name)
    yield found
    server.app.state.clock = None
    strangers = [url for url in found.requests if not url.startswith(server.address)]
    assert strangers == []
    assert found.problems == []
