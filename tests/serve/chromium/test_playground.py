"""The playground in Chromium: chats, branches, reloads, comparisons, hostile texts, what is not stored."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from serve.chromium.table import Table
from serve.playground.scripted import picks_of
from serve.playground.test_chats import CANARY, found_in
from web.browser import samples
from web.browser.test_pages import check, fits

pytestmark = pytest.mark.slow


def test_a_chat_by_keyboard_alone(table: Table) -> None:
    page = table.sit()
    model = table.play.models["red"]
    model.says = lambda messages: f"**{len(messages)}** to {messages[-1]['content']}"
    page.keyboard.type("First")  # the page begins in the text
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line")
    page.keyboard.press("Enter")
    table.answers("1 to First\nline")
    expect(table.answer().locator("strong")).to_have_text("1")
    expect(page).to_have_url(f"{table.server.address}/chat/{page.url.rpartition('/')[2]}")
    expect(page.locator(".past [aria-current]")).to_have_text("First")
    table.keys("w")
    page.keyboard.type("Second")
    page.keyboard.press("Enter")
    table.answers("3 to Second")
    model.says = "Again"
    table.keys("r")
    table.answers("Again")
    expect(page.locator(".answer").last.locator(".number")).to_have_text("2/2")
    table.keys("ArrowLeft")
    table.answers("3 to Second")
    table.keys("c")
    expect(page.locator("[data-said]")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "**3** to Second"
    table.keys("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("Second, edited")
    page.keyboard.press("Enter")
    table.answers("Again")
    expect(page.locator(".mine").last.locator(".number")).to_have_text("2/2")
    page.reload()  # the branch is kept
    expect(page.locator(".mine .words")).to_have_text(["First\nline", "Second, edited"])
    page.locator(".mine").last.hover()
    page.locator(".mine").last.get_by_role("button", name="Earlier version").click()
    expect(page.locator(".mine .words").last).to_have_text("Second")
    table.answers("Again")  # along the newest branches
    table.keys("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("answer again")


def test_a_reload_in_mid_answer_loses_nothing(table: Table) -> None:
    page = table.sit()
    model = table.play.models["red"]
    model.says, model.holds = "One *two* 🙂 three four", 3
    table.ask("Count")
    expect(table.answer()).to_have_text("One *two* 🙂")  # plain while it is written
    page.reload()
    expect(table.answer()).to_have_text("One *two* 🙂")
    assert model.running == 1
    model.go.set()
    table.answers("One two 🙂 three four")
    assert len(model.asked) == 1


def test_a_connection_that_is_lost_loses_nothing(table: Table) -> None:
    """The server ends in mid-answer, and what a reader says meanwhile waits in the browser."""
    page = table.sit()
    model = table.play.models["red"]
    table.ask("Count")
    table.answers("Four.")
    model.says, model.holds = "One two three", 2
    table.ask("More")
    expect(table.answer()).to_have_text("One two")
    table.server.stop()
    expect(page.locator(".note").last).to_contain_text("connection is lost")
    page.locator(".answer").first.get_by_role("button", name="Good answer").click()
    page.keyboard.press("Escape")
    expect(page.locator("[data-line]")).to_contain_text("waits here")
    table.server.start()
    expect(page.locator(".note").last).to_contain_text("before this answer was complete")
    expect(table.answer()).to_have_text("One two")
    assert _soon(lambda: [kind for kind, _ in table.kept_reactions()] == ["thumb"], page, 3000)


def test_an_answer_is_stopped(table: Table) -> None:
    page = table.sit()
    model = table.play.models["red"]
    model.says, model.holds = "One two three", 2
    for stored in (True, False):
        if not stored:
            page.goto(table.server.address)
            page.get_by_role("button", name="Stored").click()
        table.ask("Count")
        expect(table.answer()).to_have_text("One two")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".answer .note")).to_have_text("You stopped this answer.")
        expect(page.get_by_label("Your message")).to_be_focused()
        page.wait_for_function("() => true")
        assert _soon(lambda: model.running == 0, page)
    page.on("dialog", lambda dialog: dialog.accept())  # a chat that is not stored asks before it goes


def _soon(holds: object, page: object, tries: int = 200) -> bool:
    for _ in range(tries):
        if holds():  # type: ignore[operator]
            return True
        page.wait_for_timeout(10)  # type: ignore[attr-defined]
    return False


def test_settings_and_system_prompt_reach_the_model(table: Table) -> None:
    page = table.sit()
    table.keys("s")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Longest answer").fill("64")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("button", name="Settings (4 changed)")).to_be_visible()
    page.get_by_label("Model").select_option("sft-2")
    table.ask("Hello")
    table.answers("Four.")
    (asked,) = table.play.models["sft-2"].asked
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.3, 64, 7)
    page.reload()
    expect(page.get_by_role("button", name="Settings (4 changed)")).to_be_visible()


def test_a_thumb_an_edit_and_a_pick_are_in_the_collection(table: Table) -> None:
    page = table.sit()
    table.play.models["red"].says = "I am red, and it is four."
    table.play.models["sft-2"].says = "It is 4."
    table.keys("v")
    page.get_by_label("Your message").press("w")
    table.ask("What is 2 + 2?")
    expect(page.get_by_role("group", name="Which answer is better?")).to_be_visible()
    assert "red" not in page.locator(".pair .who").all_inner_texts()
    table.keys("4")
    expect(page.locator(".side.better .who")).to_contain_text("B: ")
    expect(page.locator(".outcome")).to_contain_text("not blind")
    (pick,) = picks_of(table.play, table.name)
    assert (pick[0]["blind"], pick[1]["outcome"]) == (False, "right")
    assert {pick[0][side]["model"] for side in "ab"} == {"red", "sft-2"}
    side = page.locator(".side", has_text="It is 4.")
    side.get_by_role("button", name="Good answer").click()
    page.get_by_label("Clear").check(force=True)
    page.get_by_role("button", name="Save").click()
    side.get_by_role("button", name="Improve this answer").click()
    page.get_by_label("The answer as it should be").fill("It is 4, always.")
    page.get_by_role("button", name="Offer improvement").click()
    assert _soon(lambda: sum(len(one.reactions) for one in table.kept()) == 2, page)
    (kept,) = [one for one in table.kept() if one.reactions]
    assert _soon(lambda: dict(table.kept_reactions())["thumb"] == {"up": True, "reasons": ["clear"]}, page)
    assert dict(kept.reactions)["edit"] == {"text": "It is 4, always."}
    assert kept.exchange.answers == ["It is 4."]
    page.reload()
    expect(side.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")


def test_what_is_not_stored_lives_in_the_page_alone(table: Table) -> None:
    page = table.sit(agrees=False)
    table.play.models["red"].says = f"{CANARY} answers"
    expect(page.get_by_role("button", name="Not stored")).to_be_visible()
    table.ask(f"{CANARY} asks")
    table.answers(f"{CANARY} answers")
    expect(page.get_by_role("button", name="Good answer")).to_have_count(0)
    table.keys("r")
    table.answers(f"{CANARY} answers")
    expect(page.locator(".answer .number")).to_have_text("2/2")
    assert found_in(table.play, CANARY) == []
    assert CANARY not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert page.url == f"{table.server.address}/"
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    expect(page.get_by_role("heading", name="What would you like to ask?")).to_be_visible()


@pytest.mark.parametrize("stored", [True, False])
def test_a_model_that_reads_one_message_says_so_before_the_second(table: Table, stored: bool) -> None:
    model = table.play.models["red"]
    model.one_message = True
    model.says = lambda messages: f"{len(messages)} to {messages[-1]['content']}"
    page = table.sit(agrees=stored)
    told = page.locator("[data-alone]")
    expect(told).to_be_hidden()
    table.ask("First")
    table.answers("1 to First")
    expect(told).to_contain_text("This model reads one message")
    expect(page.get_by_label("Your message")).to_have_attribute("placeholder", "Ask something new")
    check(page)
    first = page.url
    page.get_by_label("Your message").fill("Second")
    page.get_by_role("button", name="Send as a new chat").click()
    table.answers("1 to Second")
    expect(page.locator(".mine .words")).to_have_text(["Second"])
    if stored:
        expect(page.locator(".past .one")).to_have_text(["Second", "First"])
        assert page.url != first
        page.go_back()
        expect(page).to_have_url(first)
    else:
        page.locator(".mine").get_by_role("button", name="Earlier version").click()
    table.answers("1 to First")
    page.get_by_label("Model").select_option("sft-2")  # this one reads the chat
    expect(told).to_be_hidden()
    table.play.models["sft-2"].says = model.says
    table.ask("Third")
    table.answers("3 to Third")
    page.get_by_role("button", name="Side by side").click()  # one of two reads it
    expect(told).to_contain_text("Fewer than two models")
    page.on("dialog", lambda dialog: dialog.accept())


def test_consent_is_asked_for_before_anything_is_stored(table: Table) -> None:
    page = table.sit(agrees=False)
    page.get_by_role("button", name="Not stored").click()
    page.get_by_role("button", name="I agree").click()
    expect(page.get_by_role("button", name="Stored", exact=True)).to_be_visible()
    table.ask("Keep this")
    table.answers("Four.")
    assert [one.exchange.answers for one in table.kept()] == [["Four."]]


def test_chats_are_renamed_and_deleted(table: Table) -> None:
    page = table.sit()
    table.ask("Old name")
    table.answers("Four.")
    page.get_by_role("button", name="Rename this chat").click()
    page.get_by_label("Title").fill("New name")
    page.keyboard.press("Enter")
    expect(page.locator(".past [aria-current]")).to_have_text("New name")
    page.get_by_role("button", name="Delete this chat").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page).to_have_url(f"{table.server.address}/")
    expect(page.locator(".past")).to_contain_text("Your chats appear here.")


@pytest.mark.parametrize("stored", [True, False])
def test_hostile_texts_do_nothing(table: Table, stored: bool) -> None:
    """`table` itself fails where anything was asked of another server, or a policy was broken."""
    page = table.sit(agrees=stored)
    model = table.play.models["red"]
    for text in [
        *samples.HOSTILE["completions"],
        "[" * 20_000,
        "[x](javascript:window.hacked=1) <a href='javascript:1'>y</a>",
    ]:
        model.says = text
        table.ask(samples.HOSTILE["prompt"])
        expect(page.locator("[data-writing]")).to_have_count(0)
        expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.locator(".answer")).to_have_count(6)
    for again in range(2):
        assert page.evaluate("window.hacked") is None
        assert "heedful" in page.title()
        inside = page.evaluate("[...document.querySelectorAll('.turn .body *')].map((e) => e.tagName.toLowerCase())")
        assert not {"script", "style", "iframe", "img", "link", "a"} & set(inside)
        shown = page.locator(".turns").inner_text()
        assert "<script>window.hacked = true" in shown
        assert not set(shown) & set("\u202e\u202c\u2066\u2069\u200b\ufeff\0\x1b")
        if again or not stored:
            break
        page.reload()
        expect(page.locator(".answer")).to_have_count(6)


def test_every_view_is_accessible_and_fits(table: Table) -> None:
    page = table.sit()
    check(page)
    table.play.models["red"].says = (
        "# Head\n\n- one\n- two `code`\n\n```\n" + "long " * 60 + "\n```\n\n|a|b|\n|-|-|\n|1|2|"
    )
    table.ask("Show me")
    expect(page.locator(".answer pre")).to_be_visible()
    table.keys("v", "w")
    table.ask("Two")
    expect(page.locator(".verdicts")).to_be_visible()
    check(page)
    for width in (390, 820, 1280):
        fits(page, width)
    table.keys("1")
    expect(page.locator(".outcome")).to_be_visible()
    for key, name in (("s", "Settings of this chat"), ("?", "Keys")):
        table.keys(key)
        expect(page.get_by_role("dialog", name=name)).to_be_visible()
        check(page)
        page.keyboard.press("Escape")
    page.locator(".side").first.get_by_role("button", name="Bad answer").click()
    check(page)
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button", name="Chats").click()
    expect(page.get_by_role("link", name="New chat")).to_be_focused()
    check(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Chats")).to_be_focused()
