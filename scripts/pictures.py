"""Take the pictures of README and docs from the app as it is, and of a report.

    PYTHONPATH=src:tests .venv/bin/python scripts/pictures.py                        # all pages of the app
    PYTHONPATH=src:tests .venv/bin/python scripts/pictures.py --report demo/report.html  # the report of a demo, too
    PYTHONPATH=src:tests .venv/bin/python scripts/pictures.py labelling-rank team-item   # some of them

It needs Chromium (`scripts/browser`). Each picture is docs/images/NAME.png, 1280 pixels wide and below 150 kB.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from web.browser import shots
from web.browser.place import ARGUMENTS, CHROMIUM

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
MOST = 150_000  # bytes
WIDTH, COLOURS = 1280, 128
PICTURES = {
    "labelling-rate": ("rating", 720),
    "labelling-rank": ("ranking", 760),
    "labelling-rank-dark": ("ranking", 760),
    "labelling-compare": ("compared", 640),
    "labelling-demonstration": ("demonstration", 560),
    "labelling-head-to-head": ("choice", 700),
    "team-overview": ("overview", 900),
    "team-people": ("people", 660),
    "team-rubric": ("rubric", 900),
    "team-import": ("import_preview", 900),
    "team-items": ("items", 760),
    "team-item": ("item", 1150),
    "team-agreement": ("agreement", 900),
    "collection-users": ("users", 900),
    "collection-kept": ("kept", 720),
    "serving-keys": ("keys", 860),
    "rounds": ("rounds", 900),
    "playground": ("chat", 800),
    "playground-one-message": ("one_message", 800),
    "playground-side-by-side": ("side_by_side", 800),
}
"""Name of each picture: the page of `web.browser` or `serve.chromium` that it shows, and its height."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--report", type=Path, help="a report page, for docs/images/report.png")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(PICTURES):
        sys.exit(f"{', '.join(sorted(unknown))}: no such picture. There are {', '.join(PICTURES)}")
    names = asked.names or ([] if asked.report else list(PICTURES))
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        if asked.report:
            page = browser.new_page(viewport={"width": WIDTH, "height": 1285})
            page.goto(asked.report.resolve().as_uri())
            take(page, "report", 1285)
        if names:
            show = shots.shower(Path(scratch), browser)
            for name in names:
                shown, height = PICTURES[name]
                page = show(shown)
                take(page, name, height)
                page.context.close()
        browser.close()


def take(page: Page, name: str, height: int) -> None:
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.emulate_media(color_scheme="dark" if name.endswith("-dark") else "light")
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    path = FOLDER / f"{name}.png"
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(FOLDER.parent.parent)}  {size / 1000:.0f} kB")
    if size > MOST:
        sys.exit(f"{path}: larger than {MOST / 1000:.0f} kB. Show less of the page")


if __name__ == "__main__":
    main()
