"""Pictures of every labeler's page, to be looked at: light and dark, 1280 and 820 pixels wide.

PYTHONPATH=src:tests .venv/bin/python -m web.browser.shots FOLDER [PAGE ...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from web.browser.pages import PAGES
from web.browser.place import ARGUMENTS, CHROMIUM, Server, new_place


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        server = Server(Path(scratch))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for name in names or PAGES:
            context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
            place = new_place(server, context, "Tea and gardens")
            PAGES[name](place)
            for width in (1280, 820):
                place.page.set_viewport_size({"width": width, "height": 800 if width == 1280 else 1100})
                for scheme in ("light", "dark"):
                    place.page.emulate_media(color_scheme=scheme)
                    place.page.evaluate("scrollTo(0, 0)")
                    place.page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
            context.close()
        browser.close()
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
