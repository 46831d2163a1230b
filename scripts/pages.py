"""Gather the pages of the site in build/pages: docs/, the README, and a page of the Python reference for each package.

    .venv/bin/python scripts/pages.py

`make docs` then builds the site from them by mkdocs.yml. A link that leads nowhere ends with exit code 1.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, PAGES = ROOT / "src" / "heedful", ROOT / "build" / "pages"
MOVED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PACKAGES = (
    "configs", "stages", "learning", "maths", "rewards", "rollout", "models", "fast", "planning", "training",
    "inference", "evaluation", "data", "runs", "feedback", "collection", "report",
)  # fmt: skip
LINK = re.compile(r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def gather() -> list[str]:
    """Write all pages. Returns the links that lead nowhere."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for name, page in MOVED.items():
        shutil.copy(ROOT / name, PAGES / page)
    (PAGES / "reference").mkdir()
    for package in PACKAGES:
        (PAGES / "reference" / f"{package}.md").write_text(reference(package), "utf-8")
    broken: list[str] = []
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text("utf-8")
        path.write_text(LINK.sub(lambda found, name=path.name: _link(found, name, broken), text), "utf-8")  # type: ignore[misc]
    return broken


def _link(found: re.Match[str], page: str, broken: list[str]) -> str:
    """A link of the repository as a link of the site. One to a file that is no page becomes plain text."""
    picture, text, target = found.groups()
    if target.startswith(("http", "mailto:", "#")):
        return found[0]
    path, hash_, anchor = target.partition("#")
    path = path.removeprefix("../").removeprefix("docs/")
    path = MOVED.get(path, path)
    if (PAGES / path).exists():
        return f"{picture}[{text}]({path}{hash_}{anchor})"
    if not (ROOT / path).exists():
        broken.append(f"{page}: {target}")
    return text


def reference(package: str) -> str:
    """One page with what mkdocstrings shows of each module: its docstring, classes and functions."""
    modules = sorted(path for path in (SOURCE / package).rglob("*.py") if path.name != "__init__.py")
    names = [".".join(("heedful", *path.relative_to(SOURCE).with_suffix("").parts)) for path in modules]
    shown = [f"::: {name}" for name in names if ".migrations." not in name]
    return "\n\n".join([f"# heedful.{package}", *shown]) + "\n"


if __name__ == "__main__":
    if wrong := gather():
        sys.exit("links that lead nowhere: " + ", ".join(wrong))
