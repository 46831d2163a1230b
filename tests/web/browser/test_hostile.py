"""Whatever a model wrote is shown as text, and nothing of it happens."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import BrowserContext, expect

from heedful.web.text.sanitise import MOST_SHOWN
from web.browser import led, samples
from web.browser.place import Place, Server

pytestmark = pytest.mark.slow


def test_markup_styles_scripts_and_overrides_are_words(place: Place) -> None:
    """`place` itself fails where anything was asked of another server, or a policy was broken."""
    place.settings(rate_first=False)
    place.add("ranking", samples.HOSTILE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    assert page.title() == "Rankings · heedful"
    assert page.evaluate("window.hacked") is None
    inside = page.evaluate("[...document.querySelectorAll('.words *')].map((e) => e.tagName + ' ' + e.className)")
    assert set(inside) == {"SPAN sign"}
    texts = page.locator(".answer .words").all_text_contents()
    assert any(text.startswith("<script>window.hacked = true") for text in texts)
    assert any("<style>body{display:none}</style>" in text for text in texts)
    assert any("{{ 7 * 7 }}" in text and "&lt;b&gt;" in text for text in texts)
    (strange,) = [text for text in texts if "ruof" in text]
    for sign in ("RLO", "PDF", "LRI", "ZWSP", "BOM", "SHY", "NUL ×3", "ESC"):
        assert sign in strange
    assert not set(strange) & set("\u202e\u202c\u2066\u2069\u200b\ufeff\u00ad\0\x1b")
    expect(page.locator(".constraint bdi")).to_have_text("<b>bold</b> & RLOgnirts desreverPDF")


@pytest.mark.parametrize("name", ["hostile", "items"])
def test_a_leads_pages_show_words_too(server: Server, context: BrowserContext, lead_session: str, name: str) -> None:
    page = led.sign_in(server, context, lead_session)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    led.LEAD_PAGES[name](page, server.address)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked") is None
    assert "heedful" in page.title()
    shown = page.locator("main").inner_text()
    assert "</div></section><script>document.title='prompt'</script>" in shown
    if name == "hostile":
        assert "<style>body{display:none}</style>" in shown
        assert "NUL ×3" in shown
        inside = page.evaluate("[...document.querySelectorAll('.words *')].map((e) => e.tagName + ' ' + e.className)")
        assert set(inside) == {"SPAN sign"}
    assert not set(shown) & set("\u202e\u202c\u2066\u2069\u200b\ufeff\0\x1b")
    assert [url for url in asked if not url.startswith(server.address)] == []


def test_no_text_leaves_its_column(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.HOSTILE)
    page = place.open("ranking")
    for width in (1280, 820):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('.words')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        assert page.evaluate(wide) == 0


def test_ten_megabytes(place: Place) -> None:
    place.settings(rate_first=False)
    huge = "word " * 2_000_000
    place.add("ranking", {"prompt": "How long is a piece of string?", "completions": ["Short.", huge]})
    start = time.perf_counter()
    page = place.open("ranking")
    assert time.perf_counter() - start < 5
    cut = page.locator(".cut")
    expect(cut).to_contain_text(f"The first {MOST_SHOWN:,} of 10,000,000 characters.")
    whole = page.request.get(f"{place.server.address}{cut.locator('a').get_attribute('href')}")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text() == huge
    place.press("a", "b", "Control+Enter")
    place.wait_for_judgements(1)


def test_paragraphs_take_their_own_direction(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.ARABIC)
    page = place.open("ranking")
    sides = page.evaluate("""() => {
        const all = [...document.querySelectorAll('.answer .words')];
        const words = all.find((element) => element.textContent.includes('Reading every day'));
        const node = words.firstChild;
        const at = (place) => {
            const range = document.createRange();
            range.setStart(node, place);
            range.setEnd(node, place + 1);
            return range.getBoundingClientRect();
        };
        const box = words.getBoundingClientRect();
        const end = node.data.length - 1;
        const english = at(node.data.indexOf('Reading'));
        return [box.right - at(0).right, english.left - box.left, at(end).left - at(end - 1).left];
    }""")
    assert sides[0] < 5  # Arabic begins on the right
    assert sides[1] < 5  # English on the left
    assert sides[2] > 0  # and its full stop on the right


def test_code_is_set_as_code(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    expect(page.locator(".words .code")).to_have_count(2)
    family = page.locator(".words .code").first.evaluate("(e) => getComputedStyle(e).fontFamily")
    assert "monospace" in family
    texts = page.locator(".answer .words").all_text_contents()
    assert sorted(texts) == sorted(samples.TWO["completions"])  # letter by letter, also for copying
