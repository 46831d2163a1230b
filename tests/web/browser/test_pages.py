"""Every page: accessible in both colour schemes, quick, and keys that do not fire while one types."""

from __future__ import annotations

import time

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from web.browser.pages import PAGES, worked
from web.browser.place import Place

pytestmark = pytest.mark.slow
QUICK = 0.1  # seconds, on this machine


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(place: Place, name: str) -> None:
    PAGES[name](place)
    for scheme in ("light", "dark"):
        place.page.emulate_media(color_scheme=scheme)
        found = Axe().run(place.page, options={"resultTypes": ["violations"]}).response["violations"]
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
        for path in ("/ranking", "/next/ranking", "/demonstration", "/history", "/progress", "/guide", "/topics"):
            times = []
            for _ in range(7):
                start = time.perf_counter()
                assert client.get(path).status_code == 200
                times.append(time.perf_counter() - start)
            if min(times) > QUICK:
                slow[path] = min(times)
    assert slow == {}
