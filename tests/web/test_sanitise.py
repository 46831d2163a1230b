from __future__ import annotations

import re
import time
from random import Random

import pytest

from heedful.web.text.sanitise import MOST_SHOWN, MOST_SIGNS, _blocks, as_html, is_cut, plain


def sign(title: str, label: str) -> str:
    return f'<span class="sign" title="{title}">{label}</span>'


def test_markup_is_escaped() -> None:
    assert as_html("<b>&\"'</b>") == "&lt;b&gt;&amp;&#34;&#39;&lt;/b&gt;"


def test_what_could_hide_has_a_name() -> None:
    assert as_html("a\u202eb") == f"a{sign('right-to-left override, U+202E', 'RLO')}b"
    assert (
        as_html("\0\0\0x\0")
        == f"{sign('control character, U+0000', 'NUL ×3')}x{sign('control character, U+0000', 'NUL')}"
    )
    assert as_html("\ud800") == sign("control character, U+D800", "U+D800")
    assert as_html("\U000e0041") == sign("tag latin capital letter a, U+E0041", "U+E0041")
    assert "U+E0100" in as_html("a\U000e0100")


def test_line_breaks_and_tabs_stay() -> None:
    assert as_html("a\r\nb\rc\td\n") == "a\nb\nc\td\n"


def test_scripts_and_emoji_keep_what_they_need() -> None:
    for honest in (
        "👩‍👩‍👧",
        "می‌خواهم",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u200fאב",
        "❤️",
        "é",
    ):
        assert as_html(honest) == honest
    assert "ZWJ" in as_html("a\u200db")  # between Latin letters it only hides
    assert "ZWNJ" in as_html("\u0645\u200c")  # at the end it does nothing


def test_code_between_fences() -> None:
    shown = as_html("See:\n```py\nif a < b:\n```\nDone")
    assert (
        shown
        == 'See:<span hidden>\n</span><span class="code">```py\nif a &lt; b:\n```</span><span hidden>\n</span>Done'
    )
    assert as_html("```\nnever closed") == "```\nnever closed"
    assert as_html("in ```a line``` only") == "in ```a line``` only"


def test_code_is_what_the_pattern_says_and_takes_one_pass() -> None:
    pattern = re.compile(r"(?:(?<=\n)|\A)```[^\n`]*\n.*?\n```[ \t]*(?=\n|\Z)", re.DOTALL)
    pieces = ("```\n", "```\n", "```py\n", "``` \t\n", "```", "\n", "py", " ", "`", "é\n")
    rng = Random(1)
    found = 0
    for _ in range(5000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 12)))
        spans = [match.span() for match in pattern.finditer(text)]
        assert list(_blocks(text)) == spans, text
        found += len(spans)
    assert found > 1000
    for text in ("```py\n", "```\n", "```py\nx\n```\n"):
        start = time.thread_time()
        list(_blocks(text * (MOST_SHOWN // len(text))))  # milliseconds; two minutes where every fence looks for its end
        assert time.thread_time() - start < 1.5, text


def test_a_long_text_is_cut_and_signs_are_bounded() -> None:
    start = time.perf_counter()
    shown = as_html("\u200b\u202e" * 5_000_000)
    assert time.perf_counter() - start < 2
    assert shown.count("<span") == MOST_SIGNS
    assert shown.count("◌") == MOST_SHOWN - MOST_SIGNS
    assert is_cut("x" * (MOST_SHOWN + 1))
    assert not is_cut("x" * MOST_SHOWN)


def test_plain_text_can_be_sent() -> None:
    assert plain("a\ud800b") == "a?b"
    assert plain("äß") == "äß"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("\u0e2a\u0e27\u200b\u0e04\u0e23", False),  # Thai
        ("\u0e81\u200b\u0e82", False),  # Lao
        ("\u1000\u200b\u1001", False),  # Burmese
        ("\u1780\u200b\u1781", False),  # Khmer
        ("\u0e2a\u200b\u200b\u0e04", True),  # two of them break no more than one
        ("a\u200bb", True),
        ("\u0e2a\u200bb", True),
        ("\u200b\u0e2a", True),
        ("\u0e2a\u200b", True),
        ("\u0e2a\u2060\u0e04", True),
    ],
)
def test_a_break_between_words_of_thai_lao_burmese_and_khmer_is_not_marked(text: str, marked: bool) -> None:
    assert ('class="sign"' in as_html(text)) is marked
