"""Pictures of every page of labelers and leads, to be looked at: light and dark, 1280, 820 and 390 pixels wide.

PYTHONPATH=src:tests .venv/bin/python -m web.browser.shots FOLDER [PAGE ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from web.browser import led
from web.browser.pages import PAGES
from web.browser.place import ARGUMENTS, CHROMIUM, Server, new_place


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        server = Server(Path(scratch))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        session = led.populate(server)
        for name in names or (*PAGES, *led.LEAD_PAGES):
            page = shown(server, browser, session, name)
            for width in (1280, 820, 390):
                page.set_viewport_size({"width": width, "height": 800 if width == 1280 else 1100})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    print(f"{name}: {wide} pixels wide in a window of {width}")
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    page.evaluate("scrollTo(0, 0)")
                    page.screenshot(
                        path=folder / f"{name}-{width}-{scheme}.png", full_page=name in led.LEAD_PAGES or width == 390
                    )
            page.context.close()
        browser.close()
        server.stop()


def shown(server: Server, browser: Browser, session: str, name: str) -> Page:
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
