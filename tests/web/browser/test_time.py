"""The time that a judgement says it took."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from web.browser import samples
from web.browser.place import Place

pytestmark = pytest.mark.slow


def pass_(page: Page, seconds: float) -> None:
    page.clock.fast_forward(1000 * seconds)


def view(page: Page, state: str) -> None:
    """As when she turns to another tab, or back."""
    page.evaluate(
        """state => {
            Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


@pytest.fixture
def page(place: Place) -> Page:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    place.page.clock.install()
    return place.open("ranking")


def seconds(place: Place, count: int = 1) -> float:
    found: float = place.wait_for_judgements(count)[-1].seconds
    return found


def test_time_in_view_counts_and_time_away_does_not(place: Place, page: Page) -> None:
    pass_(page, 60)
    view(page, "hidden")
    pass_(page, 600)
    view(page, "visible")
    pass_(page, 5)
    place.press("a", "b", "Control+Enter")
    assert 65 <= seconds(place) < 85


def test_of_a_time_without_a_move_the_beginning_counts(place: Place, page: Page) -> None:
    pass_(page, 3600)
    place.press("a", "b", "Control+Enter")
    assert 90 <= seconds(place) < 110


def test_loading_the_page_anew_loses_no_time(place: Place, page: Page) -> None:
    pass_(page, 60)
    page.reload()  # nothing was drafted
    pass_(page, 30)
    place.press("a", "b")
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")
    page.evaluate("localStorage.clear(); Storage.prototype.setItem = () => {}")
    page.reload()  # as on another device
    expect(page.locator(".tier")).to_have_count(2)
    place.press("Control+Enter")
    assert 90 <= seconds(place) < 110


@pytest.mark.parametrize("by", ["u", "history"])
def test_a_judgement_done_anew_keeps_the_time_of_the_first(place: Place, page: Page, by: str) -> None:
    page.wait_for_load_state("networkidle")
    pass_(page, 60)
    place.press("a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    place.wait_for_judgements(1)
    if by == "history":
        place.open("history")
        page.locator(".entry a").press("Enter")
        page.wait_for_url("**/history/*")
    place.press("u")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "2")
    pass_(page, 10)
    place.press("a", "ArrowDown", "Control+Enter")
    assert 70 <= seconds(place, 2) < 90
