"""Suspicious characters, by hand, and the one set of them for app and report."""

from __future__ import annotations

import pytest

from heedful.data.text import as_words, counted, rows_told, suspicious, visible
from heedful.report.page import Report, html
from heedful.web.text.sanitise import as_html


def test_visible() -> None:
    assert (
        visible("a\tb\n\x1b[0m\x7f\u2066x\u2069é\u0301 👩\u200d🌾")
        == "a\tb\n[U+001B][0m[U+007F][U+2066]x[U+2069]é\u0301 👩\u200d🌾"
    )
    assert visible("a\ud800b") == "a\ufffdb"
    assert list(suspicious("a\u202eb\u200e\u200d")) == [1, 4]  # the mark of direction is harmless


@pytest.mark.parametrize("character", ["\u115f", "\u17b4", "\u2800", "\u3164", "\uffa0", "\U000e0100", "\u200d"])
def test_app_and_report_show_the_same_characters(character: str) -> None:
    text = f"a{character}b"
    assert character not in as_html(text)
    assert f"a[U+{ord(character):04X}]b" in html(Report(text))


def test_names_of_fields_are_words() -> None:
    assert as_words("fails_instruction") == "fails instruction"
    assert as_words("valid/pair_loss") == "valid: pair loss"


def test_a_number_of_rows_in_words() -> None:
    assert [rows_told(count) for count in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]
    assert rows_told(1, "prompt") == "1 prompt row"


@pytest.mark.parametrize(("count", "names", "verb", "of", "told"), [
    (1, "rows", "have", 5, "1 of 5 rows has"), (2, "rows", "have", 5, "2 of 5 rows have"),
    (1, "rows", "hold", 1, "1 of 1 row holds"), (0, "pairs", "are", None, "0 pairs are"),
    (1, "pairs", "are", None, "1 pair is"), (1200, "entries", "", 2400, "1,200 of 2,400 entries"),
    (1, "passes", "do", None, "1 pass does"),
])  # fmt: skip
def test_a_count_with_its_verb(count: int, names: str, verb: str, of: int | None, told: str) -> None:
    assert counted(count, names, verb, of=of) == told
