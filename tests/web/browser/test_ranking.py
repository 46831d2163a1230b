"""Whole rankings with the keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from web.browser import samples
from web.browser.place import Place

pytestmark = pytest.mark.slow


def texts_shown(place: Place) -> list[str]:
    return [answer.text_content() or "" for answer in place.page.locator(".answer .words").all()]


def rate_all(place: Place, *overall: str) -> None:
    for key in overall:
        place.press(key, "Enter")


def test_four_answers_with_a_tie(place: Place) -> None:
    place.add("ranking", samples.NOTE, samples.TWO)
    page = place.open("ranking")
    expect(page.locator(".answer:visible")).to_have_count(1)  # each alone first (D9)
    expect(page.locator(".board")).to_be_hidden()
    place.press("Enter")
    expect(page.locator(".rating .missing")).to_contain_text("1 to 7")
    place.press("6", "k", "Enter")  # A keeps the constraint
    place.press("2", "t", "l", "k", "k", "Enter")  # B fails, is made up, and breaks it
    place.press("4", "x", "x", "Enter", "5", "Enter")  # twice is not at all
    expect(page.locator(".answer:visible")).to_have_count(4)
    shown = texts_shown(place)

    place.press("Control+Enter")  # an untouched order is no answer
    expect(page.locator("[data-missing]")).to_have_text("To submit, place A, B, C and D.")
    place.press("b", "d", "=", "a", "c", "ArrowUp")
    expect(page.locator(".tier")).to_have_count(3)
    assert [tier.inner_text().split() for tier in page.locator(".tier").all()] == [
        ["1", "B", "D", "tie"], ["2", "C"], ["3", "A"],
    ]  # fmt: skip
    expect(page.locator('.answer[data-place="3"] .standing')).to_have_text("1st of 3, tied with B")
    place.press("Space", "Control+Enter")

    expect(page.locator(".answer")).to_have_count(2)  # the next item is there
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[1, 3], [2], [0]]  # in places
    assert [past.payload.completions[index] for index in past.order] == shown
    ratings = past.answer["ratings"]
    assert [rating["overall"] for rating in ratings] == [6, 2, 4, 5]
    assert [rating.get("satisfies_constraint") for rating in ratings] == [True, False, None, None]
    flagged = [{name for name, value in rating.items() if value is True} for rating in ratings]
    assert flagged == [{"satisfies_constraint"}, {"fails_instruction", "hallucination"}, set(), set()]
    assert past.seconds is not None
    assert 0 < past.seconds < 60
    expect(page.locator("[data-today]")).to_contain_text("1 today")


def test_two_answers_and_none_acceptable(place: Place) -> None:
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    rate_all(place, "1", "2")
    place.press("b", "a", "0", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[1], [0]]
    assert past.answer["none_acceptable"] is True
    expect(page.locator("h1")).to_have_text("No more rankings for now")


def test_nine_answers_in_one_tier_and_apart(place: Place) -> None:
    place.add("ranking", samples.NINE)
    page = place.open("ranking")
    rate_all(place, *"123456712")
    height = page.locator(".board").bounding_box()
    place.press("i")
    for letter in "hgfedcb":
        place.press(letter, "=")
    place.press("a")
    after = page.locator(".board").bounding_box()
    assert height is not None
    assert after is not None
    assert after["height"] == height["height"]  # placing moves nothing
    place.press("ArrowUp", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_without_rating_first(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    expect(page.locator(".rating")).to_have_count(0)
    place.press("a", "b", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer == {"ranking": [[0], [1]], "none_acceptable": False}


def test_moves_on_the_board(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.NOTE)
    page = place.open("ranking")

    def tiers() -> list[str]:
        return ["".join(tier.locator(".chip").all_inner_texts()) for tier in page.locator(".tier").all()]

    place.press("a", "b", "c")
    assert tiers() == ["A", "B", "C"]
    place.press("ArrowUp", "ArrowUp", "ArrowUp")
    assert tiers() == ["C", "A", "B"]
    place.press("Escape")  # back where it was before it was picked up: nowhere
    assert tiers() == ["A", "B"]
    place.press("d", "=", "ArrowDown")
    assert tiers() == ["A", "B", "D"]
    place.press("=", "ArrowUp")  # out of a tie, upwards
    assert tiers() == ["A", "D", "B"]
    place.press("Backspace")
    assert tiers() == ["A", "B"]
    place.press("=")  # nothing in hand
    assert tiers() == ["A", "B"]
    expect(page.locator("[data-said]")).to_contain_text("Pick an answer up first")
    place.press("a", "=")
    expect(page.locator("[data-said]")).to_have_text("There is no tier above to tie with.")


def test_one_enter_too_few_flags_nothing(place: Place) -> None:
    """The letter of an answer means that answer in both steps."""
    place.add("ranking", samples.NOTE)
    page = place.open("ranking")
    for _ in range(4):
        place.press("4", "Enter")
    place.press("r", "ArrowRight", "ArrowRight", "5")  # back to the ratings: answer D, rated, and no Enter
    place.press("a", "b", "c")
    expect(page.locator(".walk [aria-current]")).to_have_text("Answer C")
    assert page.locator(".flags :checked:not([value=''])").count() == 0
    place.press("d", "Enter", "a", "b", "c", "d", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[0], [1], [2], [3]]
    assert not any(value is True for rating in past.answer["ratings"] for value in rating.values())


@pytest.mark.parametrize(
    "own", ["off_topic", "length", "elements", "constructor"]
)  # a form has properties of these names
def test_flags_of_the_project_and_a_shorter_scale(place: Place, own: str) -> None:
    rubric = {"own_flags": [f"{own}: It is wrong"], "flags": ["opinion"], "qualities": ["bad", "fair", "good"]}
    place.settings(rubric=rubric)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    expect(page.locator("[data-quality]")).to_have_text("1 bad … 3 good")
    place.press("7", "Enter")  # beyond the scale: nothing
    expect(page.locator(".rating .missing")).to_contain_text("from 1 to 3")
    key = page.locator(f"[name={own}]").get_attribute("data-key")
    assert key is not None
    place.press("2", key, "Enter", "3", "Enter", "a", "b", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ratings"] == [
        {"overall": 2, "opinion": False, own: True}, {"overall": 3, "opinion": False, own: False},
    ]  # fmt: skip


def test_a_flag_that_is_no_longer_asked(place: Place) -> None:
    """The submission is refused once, and then goes without the flag."""
    place.settings(rubric={"own_flags": ["Off topic"], "flags": ["opinion"]})
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    key = page.locator("[name=off_topic]").get_attribute("data-key")
    assert key is not None
    place.press("2", key, "Enter", "3", "Enter", "a", "b")
    place.settings(rubric={"own_flags": [], "flags": ["opinion"]})
    held: list[Route] = []
    page.route("**/next?*", lambda route: held.append(route))
    place.press("Control+Enter")
    expect(page.locator("[data-line]")).to_contain_text("no flag 'off_topic'")
    expect(page.locator(".rating:not(:has([name=off_topic]))")).to_have_count(1)
    with page.expect_response("**/next?*"):
        held[0].continue_()  # there is no other item, and the one that came back stays
    page.unroute("**/next?*")
    page.wait_for_timeout(200)
    place.press("Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ratings"] == [{"overall": 2, "opinion": False}, {"overall": 3, "opinion": False}]


def test_keys_of_layouts_without_latin_letters(place: Place) -> None:
    """Where the key is decides, as its letter is none of ours."""
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    keyboard = page.context.new_cdp_session(page)

    def press(key: str, code: str, modifiers: int = 0) -> None:
        for kind in ("keyDown", "keyUp"):
            pressed = {"type": kind, "key": key, "code": code, "modifiers": modifiers}
            keyboard.send("Input.dispatchKeyEvent", pressed | ({"text": key} if kind == "keyDown" else {}))

    press("٦", "Digit6")  # Arabic
    press("م", "KeyL")
    expect(page.locator(".walk [data-rated]")).to_have_count(1)
    expect(page.locator("[name=hallucination]")).to_be_checked()
    place.press("Enter", "4", "Enter")
    press("и", "KeyB")  # Cyrillic
    press("α", "KeyA")  # Greek
    assert [chip.inner_text() for chip in page.locator(".tier .chip").all()] == ["B", "A"]
    press("ظ", "Slash")  # Arabic
    expect(page.locator("dialog#compare")).to_be_visible()
    place.press("Escape")
    press("؟", "Slash", 8)
    expect(page.locator("dialog#keys")).to_be_visible()
    place.press("Escape")
    press("ы", "KeyS")
    press("٣", "Digit3")
    place.press("Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer == {"reason": "language"}


def test_dragging_places_ties_and_takes_off(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.NOTE)
    page = place.open("ranking")

    def drag(letter: str, x: float, y: float) -> None:
        page.locator(".board .chip", has_text=letter).hover()
        page.mouse.down()
        page.mouse.move(x, y, steps=4)
        page.mouse.up()

    def middle(selector: str) -> tuple[float, float]:
        box = page.locator(selector).first.bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def tiers() -> list[str]:
        return ["".join(tier.locator(".chip").all_inner_texts()) for tier in page.locator(".tier").all()]

    drag("B", *middle(".tiers"))
    assert tiers() == ["B"]
    drag("C", *middle(".tier"))  # onto a tier: a tie
    assert tiers() == ["BC"]
    x, y = middle(".tier")
    drag("A", x, y - 18)  # above it: a tier of its own
    assert tiers() == ["A", "BC"]
    drag("C", *middle(".unplaced"))
    assert tiers() == ["A", "B"]
    handle = page.locator('.answer[data-place="3"] .handle')
    handle.hover()  # from the answer itself
    page.mouse.down()
    page.mouse.move(*middle(".tier:last-child"), steps=4)
    page.mouse.up()
    assert tiers() == ["A", "BD"]


def test_answers_as_markdown_with_formulas_and_as_they_were_written(place: Place) -> None:
    place.settings(rate_first=False, rich_text=True)
    answers = ["**Bold** and $x^2$.", "```\ncode\n```"]
    place.add("ranking", {"prompt": "What is *x*?", "completions": answers, "models": ["m", "m"]})
    page = place.open("ranking")
    expect(page.locator(".prompt .rich em")).to_have_text("x")
    expect(page.locator(".answer .rich math msup")).to_be_visible()
    expect(page.locator(".answer .rich pre code")).to_have_text("code")
    expect(page.locator(".answer .words").first).to_be_hidden()
    place.press("Alt+v")
    expect(page.locator(".answer .rich").first).to_be_hidden()
    found = page.locator(".answer .words").all_inner_texts()
    assert sorted(found)[0] == answers[0]
    page.reload()
    expect(page.get_by_role("button", name="plain text")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="plain text").click()
    expect(page.locator(".answer .rich").first).to_be_visible()
    place.press("a", "b", "/")
    expect(page.locator("dialog#compare .words").first).to_contain_text("`" if "code" in found[0] else "**Bold**")
