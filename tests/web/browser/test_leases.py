"""Items that are a labeler's no more, and drafts on their way to the server."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from heedful.feedback import people, work
from web.browser import samples
from web.browser.place import Place

pytestmark = pytest.mark.slow


def taken_by_another(place: Place, minutes: float) -> None:
    """The first item that is free at that time; the server's clock goes there, too."""
    place.later(minutes)
    with place.store.writing() as db:
        now = datetime.now(UTC) + timedelta(minutes=minutes)
        other = people.add_person(db, f"other {place.name}", None, now)
        people.join(db, place.project_id, other.id, "labeler", now)
        assert isinstance(work.next_task(db, place.project_id, other.id, now), work.Task)


def draft(place: Place) -> Any:
    with place.store.writing() as db:
        task = work.next_task(db, place.project_id, place.person_id, datetime.now(UTC))
    assert isinstance(task, work.Task)
    return task.draft


def test_a_lease_that_ran_out_while_away(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.keyboard.type("Kept.")
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")
    place.later(500)
    page.reload()
    expect(page.locator("textarea")).to_have_value("Kept.")
    place.later(1000)
    place.press("Control+Enter")  # the item is still free: it is still hers
    (past,) = place.wait_for_judgements(1)
    assert past.answer["completion"] == "Kept."


def test_a_lease_that_somebody_else_took(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.keyboard.type("Too late.")
    taken_by_another(place, 500)
    place.press("Control+Enter")
    expect(page.locator("h1")).to_have_text("Others are working on the remaining demonstrations")
    expect(page.locator("[data-line]")).to_contain_text("somebody else has it now")  # and it stays
    assert place.judgements() == []


def test_an_item_that_is_gone_is_said_so_at_once(place: Place) -> None:
    place.add("ranking", samples.NINE, samples.TWO)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    taken_by_another(place, 500)
    place.press("4")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "2")
    expect(page.locator("[data-line]")).to_contain_text("This item is gone: the time for this task was over")
    place.press("4", "Enter", "5", "Enter", "a", "b", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[0], [1]]
    expect(page.locator("[data-line] p")).to_be_hidden()


def test_an_item_that_was_done_elsewhere(place: Place) -> None:
    place.add("ranking", samples.NINE, samples.TWO)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    lease = page.locator("[data-lease]").get_attribute("data-lease")
    with place.store.writing() as db:
        work.skip(db, place.person_id, str(lease), "language", datetime.now(UTC), idempotency_key=f"{lease} elsewhere")
    place.press("4", "s")  # a reason is being asked for
    expect(page.locator(".ranking")).to_have_attribute("data-count", "2")
    expect(page.locator("[data-line]")).to_contain_text("This item is gone: you skipped it")
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_an_item_that_waited_longer_than_its_lease_is_not_shown(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.page
    page.clock.install()
    place.open("ranking").wait_for_load_state("networkidle")  # four answers are ready
    place.later(100)
    place.press("a")
    page.clock.fast_forward(100 * 60_000)
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")  # hers for two more hours
    taken_by_another(place, 180)
    page.clock.fast_forward(80 * 60_000)
    place.press("b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "9")


def test_a_draft_of_any_length_reaches_the_server(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    text = "жук и лук " * 4000
    page.locator("textarea").fill(text)
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")
    assert draft(place)["completion"] == text


def test_the_last_words_before_the_page_goes_reach_the_server(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.locator("textarea").fill("Written and left.")
    page.goto("about:blank")
    until = time.monotonic() + 20
    while draft(place) is None:
        assert time.monotonic() < until
        page.wait_for_timeout(20)
    assert draft(place)["completion"] == "Written and left."
