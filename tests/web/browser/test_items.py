"""The list of items in a browser, a judgement that comes back to its labeler, and times of another zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from heedful.feedback import projects, search
from heedful.feedback.search import ItemFilters
from heedful.feedback.send_back import send_back
from web.browser import led, samples
from web.browser.led import follow
from web.browser.place import Place, Server

pytestmark = pytest.mark.slow


def test_items_are_found_and_changed_together(server: Server, context: BrowserContext, lead_session: str) -> None:
    page = led.sign_in(server, context, lead_session)
    page.goto(f"{server.address}/lead/{led.NAME}/items")
    page.get_by_label("Words in prompts").fill("neighbour thinks")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.endswith("/items?search=neighbour+thinks")  # only what is set
    with page.expect_navigation():
        page.get_by_label("Work").select_option("ranking")
    expect(page.get_by_text(re.compile("1 to 1[0-9] of 1[0-9] items"))).to_be_visible()
    bar = page.locator("[data-chosen]")
    expect(bar).to_be_hidden()
    page.get_by_role("checkbox", name="My neighbour thinks").first.check()
    expect(bar).to_contain_text("1 chosen")
    page.get_by_label("All items of this page").check()
    bar.get_by_label("What to change").select_option("held")
    bar.get_by_label("Reason to hold them back").fill("too kind")
    follow(bar.get_by_role("button", name="Apply"))
    with server.store.reading() as db:
        project = projects.the_one(db, led.NAME).id
        held = [item for item in search.listing(db, project, ItemFilters(state="held")) if item.held == "too kind"]
    expect(page.locator("[data-notice]")).to_have_text(f"Changed {len(held)} items.")
    assert len(held) >= 10
    page.get_by_label("All items of this page").check()
    bar.get_by_label("What to change").select_option("release")
    follow(bar.get_by_role("button", name="Apply"))
    with server.store.reading() as db:
        assert not [one for one in search.listing(db, project, ItemFilters(state="held")) if one.held == "too kind"]


def test_a_judgement_comes_back_with_a_note(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    place.press("a", "b", "Control+Enter")
    (first,) = place.wait_for_judgements(1)
    with place.store.writing() as db:
        send_back(db, place.project_id, first.event, "Look at B again.", datetime.now(UTC), by=place.person_id)
    page = place.open("ranking")
    expect(page.locator(".sent-back")).to_contain_text("Look at B again.")
    expect(page.locator("[data-today]")).to_have_text("0 today \N{MIDDLE DOT} 1 left")
    place.press("b", "ArrowUp", "Control+Enter")
    second = place.wait_for_judgements(2)[-1]
    assert second.answer is not None
    assert (second.stands, second.answer["ranking"]) == (True, [[1], [0]])


def test_times_are_those_of_the_browser(server: Server, browser: Browser, lead_session: str) -> None:
    context = browser.new_context(timezone_id="Asia/Kolkata")
    page = led.sign_in(server, context, lead_session)
    page.goto(f"{server.address}/lead/{led.NAME}/log")
    shown = page.locator("time").first
    sent = datetime.fromisoformat(shown.get_attribute("datetime") or "")
    minutes = (sent.hour * 60 + sent.minute + 330) % 1440  # 5:30 ahead of UTC
    expect(shown).to_have_text(re.compile(f", {minutes // 60:02}:{minutes % 60:02}$"))
    title = shown.get_attribute("title") or ""
    assert title.startswith("India Standard Time. ")
    assert title.endswith(f", {sent:%H:%M} UTC")
    context.close()
