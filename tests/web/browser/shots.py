"""Pictures of every page of labelers, leads and users of models: light and dark, 1280, 820 and 390 pixels wide.

PYTHONPATH=src:tests .venv/bin/python -m web.browser.shots FOLDER [PAGE ...]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from serve.chromium.pictured import SERVED, open_server
from web.browser import led
from web.browser.pages import PAGES
from web.browser.place import ARGUMENTS, CHROMIUM, Server, new_place


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        show = shower(Path(scratch), browser)
        for name in names or (*PAGES, *led.LEAD_PAGES, *SERVED):
            page = show(name)
            for width in (1280, 820, 390):
                page.set_viewport_size({"width": width, "height": 800 if width == 1280 else 1100})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    print(f"{name}: {wide} pixels wide in a window of {width}")
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    page.evaluate("scrollTo(0, 0)")
                    page.screenshot(
                        path=folder / f"{name}-{width}-{scheme}.png", full_page=name not in PAGES or width == 390
                    )
            page.context.close()
        browser.close()


def shower(folder: Path, browser: Browser) -> Callable[[str], Page]:
    """A function that opens a page by its name. It starts the servers that it needs: labelling, and models."""
    names: dict[bool, Any] = {}

    def show(name: str) -> Page:
        served = name in SERVED
        if served not in names:
            (folder / str(served)).mkdir()
            if served:
                names[served] = open_server(folder / str(served))
            else:
                server = Server(folder / str(served))
                names[served] = server, led.populate(server)
        if served:
            return SERVED[name](*names[served], browser)
        return shown(*names[served], browser, name)

    return show


def shown(server: Server, session: str, browser: Browser, name: str) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    if name in led.LEAD_PAGES:
        page = led.sign_in(server, context, session)
        led.LEAD_PAGES[name](page, server.address)
        return page
    place = new_place(server, context, "Tea and gardens")
    PAGES[name](place)
    return place.page


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
