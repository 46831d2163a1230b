"""Every page: accessible in both colour schemes, quick, and keys that do not fire while one types."""

from __future__ import annotations

import time

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page

from web.browser import led
from web.browser.led import LEAD_PAGES
from web.browser.pages import PAGES, worked
from web.browser.place import Place, Server

pytestmark = pytest.mark.slow
QUICK = 0.1  # seconds, on this machine


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(place: Place, name: str) -> None:
    PAGES[name](place)
    check(place.page)
    for width in (820, 360):
        fits(place.page, width)


@pytest.mark.parametrize("name", LEAD_PAGES)
def test_leads_pages_are_accessible_and_as_wide_as_the_window(
    server: Server, context: BrowserContext, lead_session: str, name: str
) -> None:
    page = led.sign_in(server, context, lead_session)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    LEAD_PAGES[name](page, server.address)
    for width in (1280, 360, 820):
        fits(page, width)
    check(page)
    assert [problem for problem in problems if "Failed to load resource" not in problem] == []


def fits(page: Page, width: int) -> None:
    """Nothing is wider than the window, no text runs out of its control or is too small, and the bar is in view."""
    page.set_viewport_size({"width": width, "height": 1100})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bar = page.locator(".bar nav ul")
    assert bar.count() == 0 or bar.evaluate("list => list.scrollWidth <= list.clientWidth"), width
    controls = page.locator(".sides, .button, .answer .standing, .three > div, .likert > div").locator("visible=true")
    wider = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.outerHTML)"
    assert controls.evaluate_all(wider) == [], width
    marks = page.locator(".chart .tick").evaluate_all("all => all.map((one) => one.getBoundingClientRect().height)")
    assert min(marks, default=9) >= 9, width  # can be read


def check(page: Page) -> None:
    """axe-core, in both colour schemes."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        options: dict[str, object] = {"resultTypes": ["violations"]}
        if scheme == "dark":  # all but colours has been seen in the light
            options["runOnly"] = ["color-contrast"]
        found = Axe().run(page, options=options).response["violations"]
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]][:3], one["nodes"][0].get("failureSummary", "")[:300])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], scheme


def test_pages_answer_quickly(place: Place) -> None:
    worked(place)
    cookies = {cookie["name"]: cookie["value"] for cookie in place.page.context.cookies()}
    slow = {}
    with httpx.Client(cookies=cookies, base_url=place.address) as client:
        for path in ("/ranking", "/demonstration", "/history", "/progress", "/guide", "/topics"):
            times = []
            for _ in range(7):
                start = time.perf_counter()
                assert client.get(path).status_code == 200
                times.append(time.perf_counter() - start)
            if min(times) > QUICK:
                slow[path] = min(times)
    assert slow == {}
