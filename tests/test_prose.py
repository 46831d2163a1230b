"""How the documentation reads, in three figures: semicolons, words to the reader, long sentences.

Counted over the prose of README and docs, without code, tables, LOG.md, CHANGELOG and pages that a script writes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
GENERATED = {"commands.md"}
DIARIES = {"LOG.md", "CHANGELOG.md"}
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in GENERATED | DIARIES)]
SEMICOLONS, YOU, LONG = 4.0, 6.0, 5.0
"""At most so many semicolons in 1,000 words, at least so many "you", at most so many % sentences over 30 words."""


class Figures(NamedTuple):
    words: int
    sentences: int
    semicolons: int
    you: int
    long: int


def prose(text: str) -> list[str]:
    """The paragraphs and list items of a Markdown page, without code, tables, headings and the targets of links."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    blocks: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not re.match(r"(\s{4,}(?![-*\d]))|\s*\||\s*#", line)]
        blocks += re.split(r"\n\s*(?:[-*]|\d+\.) ", "\n" + "\n".join(lines))
    return [re.sub(r"`[^`]*`", "code", " ".join(block.split())) for block in blocks if block.strip()]


def figures(text: str) -> Figures:
    words = sentences = semicolons = you = long = 0
    for block in prose(text):
        semicolons += block.count(";")
        you += len(re.findall(r"\b(?:you|your|yours|yourself)\b", block, re.IGNORECASE))
        for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z\"'(*`\d])", block):
            count = len(re.findall(r"[A-Za-z][\w'’-]*|\d[\d.,]*", sentence))
            words, sentences, long = words + count, sentences + (count > 0), long + (count > 30)
    return Figures(words, sentences, semicolons, you, long)


def total() -> Figures:
    return Figures(*map(sum, zip(*(figures(page.read_text("utf-8")) for page in PAGES), strict=True)))


def test_the_counter_by_hand() -> None:
    page = "# Title\n\nYou see two; three `x; y` words. Short one.\n\n| a; b |\n| - |\n\n    code; here\n"
    page += "\n- an item; of your list\n"
    assert figures(page) == Figures(words=13, sentences=3, semicolons=2, you=2, long=0)
    assert figures("word " * 31 + ".").long == 1
    assert figures("word " * 30 + ".").long == 0


def test_documentation_reads_plainly() -> None:
    found = total()
    assert found.semicolons / found.words * 1000 <= SEMICOLONS
    assert found.you / found.words * 1000 >= YOU
    assert found.long / found.sentences * 100 <= LONG


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_is_far_off(page: Path) -> None:
    found = figures(page.read_text("utf-8"))
    assert found.semicolons / found.words * 1000 <= 3 * SEMICOLONS
    assert found.long / found.sentences * 100 <= 3 * LONG


if __name__ == "__main__":
    for page in PAGES:
        f = figures(page.read_text("utf-8"))
        print(
            f"{page.name:22} {f.words:6} words {f.semicolons / f.words * 1000:5.1f} semicolons "
            f"{f.you / f.words * 1000:5.1f} you {f.long / f.sentences * 100:5.1f} % long"
        )
    f = total()
    print(
        f"{'all':22} {f.words:6} words {f.semicolons / f.words * 1000:5.1f} semicolons "
        f"{f.you / f.words * 1000:5.1f} you {f.long / f.sentences * 100:5.1f} % long"
    )
