"""The other kinds of work, the way back, and what happens when things go wrong."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from heedful.feedback import people, projects, work
from web.browser import samples
from web.browser.place import Place, new_place

pytestmark = pytest.mark.slow


def test_a_demonstration_is_saved_while_it_is_written(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    submit = page.locator('[data-do="submit"]')
    expect(submit).to_have_attribute("aria-disabled", "true")
    expect(page.locator("[data-missing]")).to_have_text("To submit, write an answer.")
    page.keyboard.type("A weekly box. ? s p u are letters here, 1 too.")
    expect(page.locator("[data-length]")).to_have_text("12 words")
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")
    page.evaluate("localStorage.clear()")
    page.reload()
    expect(page.locator("textarea")).to_have_value("A weekly box. ? s p u are letters here, 1 too.")
    expect(page.locator("dialog[open]")).to_have_count(0)
    place.press("Escape", "?")
    expect(page.locator("dialog#keys")).to_be_visible()
    place.press("Escape", "w", "End")
    page.keyboard.type(" Done.")
    place.press("Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer == {"completion": "A weekly box. ? s p u are letters here, 1 too. Done.", "pasted": 0}


def test_the_preview_is_what_the_server_makes_of_it(place: Place) -> None:
    place.settings(markdown=True)
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.keyboard.insert_text("**Three**\n\n<img src=x onerror=hacked()> [a](https://a.org) [b](javascript:c)")
    place.press("Alt+p")
    shown = page.locator("[data-preview-of]")
    expect(shown.locator("strong")).to_have_text("Three")
    expect(shown.locator("a")).to_have_count(1)
    expect(shown.locator("a")).to_have_attribute("rel", "nofollow noopener noreferrer")
    expect(shown.locator("img")).to_have_count(0)
    page.keyboard.insert_text(" *more*")
    expect(shown.locator("em")).to_have_text("more")


def test_the_newer_of_two_drafts_wins(place: Place) -> None:
    """Another device saved since this browser last heard of the server; then this one, without a connection."""
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.keyboard.type("Begun here.")
    expect(page.locator("[data-saved]")).to_contain_text("Draft saved")
    lease = page.locator("[data-lease]").get_attribute("data-lease")
    assert lease is not None
    page.wait_for_function("lease => JSON.parse(localStorage.getItem(`heedful:draft:${lease}`)).seen > 0", arg=lease)
    with place.store.writing() as db:
        work.save_draft(db, place.person_id, lease, {"completion": "Gone on elsewhere."}, datetime.now(UTC))
    page.reload()
    expect(page.locator("textarea")).to_have_value("Gone on elsewhere.")
    page.route("**/draft", lambda route: route.abort())
    page.keyboard.press("Control+End")
    page.keyboard.type(" And here.")
    expect(page.locator("[data-saved]")).not_to_contain_text("Draft saved")
    page.reload()
    expect(page.locator("textarea")).to_have_value("Gone on elsewhere. And here.")


def test_a_long_paste_is_noted_and_not_forbidden(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    page = place.open("demonstration")
    page.evaluate("""() => {
        const data = new DataTransfer();
        data.setData("text", "words ".repeat(100));
        document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }""")
    expect(page.locator("[data-pasted]")).to_have_text("600 characters were pasted. This is noted with the answer.")
    page.keyboard.type("My answer.")
    place.press("Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer == {"completion": "My answer.", "pasted": 600}


def test_head_to_head_is_blind(place: Place) -> None:
    place.add("choice", samples.CHOICE, purpose="evaluate")
    page = place.open("choice")
    assert "runs/ppo" not in page.content()
    assert "baseline" not in page.content()
    first = page.locator(".answer .words").first.text_content()
    place.press("/")
    expect(page.locator("dialog#compare mark").first).to_be_visible()
    place.press("Escape", "a", "=", "a", "Control+Enter")
    (past,) = place.wait_for_judgements(1)
    assert past.answer == {"preferred": "a"}
    place.add("choice", {**samples.CHOICE, "prompt": "And now?"}, purpose="evaluate")
    place.press("n")
    expect(page.get_by_text("And now?")).to_be_visible()
    place.press("0")
    expect(page.locator(".answer .standing").first).to_have_text("bad")
    place.press("Control+Enter")
    assert place.wait_for_judgements(2)[-1].answer == {"preferred": "tie", "none_acceptable": True}
    assert first == [past.payload.a.text, past.payload.b.text][past.order[0]]


def test_prompts_of_three_kinds(place: Place) -> None:
    museum = {"form": "user_based", "about": "A museum's desk for visitors."}
    place.add("prompt", {"form": "plain"}, {"form": "few_shot", "use_case": "classification"}, museum)
    page = place.open("prompt")
    page.keyboard.type("Name a river.")
    place.press("Tab", "b", "Control+Enter")
    expect(page.locator(".pair")).to_have_count(2)
    expect(page.locator("[name=prompt]")).to_be_focused()
    page.keyboard.type("Is it a fish?")
    for words in ("herring", "yes", "dog", "no"):
        place.press("Tab")
        page.keyboard.type(words)
    place.press("Control+Enter")
    expect(page.locator("[data-missing]")).to_contain_text("the query to answer")
    place.press("Alt+n")
    expect(page.locator(".pair")).to_have_count(3)
    page.locator(".pair").last.get_by_role("button").click()
    page.locator("[name=last_query]").fill("eel")
    place.press("Control+Enter")
    expect(page.locator(".assignment")).to_contain_text("A museum's desk for visitors.")
    expect(page.locator("[name=prompt]")).to_be_focused()
    page.keyboard.type("When are you open?")
    place.press("Control+Enter")
    plain, few, based = place.wait_for_judgements(3)
    assert plain.answer == {"prompt": "Name a river.", "use_case": "brainstorming"}
    assert few.answer["prompt"] == "Is it a fish?"
    assert few.answer["shots"] == [{"query": "herring", "response": "yes"}, {"query": "dog", "response": "no"}]
    assert few.answer["query"] == "eel"
    assert few.answer["use_case"] == "classification"
    assert based.answer == {"prompt": "When are you open?"}


def test_undo_brings_the_last_one_back(place: Place) -> None:
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    place.press("7", "l", "Enter", "2", "Enter", "a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    place.wait_for_judgements(1)
    expect(page.locator("[data-today]")).to_contain_text("1 today")
    place.press("u")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "2")
    expect(page.locator("[data-today]")).to_contain_text("0 today")
    expect(page.locator('.answer[data-place="0"] .rated')).to_have_text("7 of 7 · made up")
    expect(page.locator('.answer[data-place="0"] .standing')).to_have_text("1st of 2")
    place.press("a", "ArrowDown", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    first, second = place.wait_for_judgements(2)
    assert (first.stands, second.stands) == (False, True)
    assert (first.answer["ranking"], second.answer["ranking"]) == ([[0], [1]], [[1], [0]])
    assert second.answer["ratings"] == first.answer["ratings"]


def test_undo_from_history(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    place.press("b", "a", "Control+Enter")
    place.wait_for_judgements(1)
    page = place.open("history")
    expect(page.locator(".entry .said")).to_have_text("B > A")
    page.locator(".entry a").press("Enter")
    page.wait_for_url("**/history/*")
    place.press("u")
    expect(page.locator(".task-head .tag")).to_have_text("Taken back: submit it again")
    expect(page.locator(".tier")).to_have_count(2)


def test_skip_with_a_reason_and_personal_data(place: Place) -> None:
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    place.press("p")
    page.keyboard.type("a telephone number in A")
    place.press("Enter")
    expect(page.locator('[data-do="personal"]')).to_have_attribute("aria-pressed", "true")
    place.press("s", "Enter")
    expect(page.locator("dialog#skip .missing")).to_contain_text("Choose a reason first")
    place.press("3", "Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    (past,) = place.wait_for_judgements(1)
    assert past.event_kind == "skip"
    assert past.answer == {"reason": "language"}
    with place.store.reading() as db:
        from heedful.feedback import search

        held = search.listing(db, place.project_id, search.ItemFilters(state="held"))
    assert len(held) == 1
    assert held[0].held is not None
    assert "personal data" in held[0].held


def test_the_next_item_does_not_wait_for_the_server(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    page.route("**/submit", lambda route: held.append(route))
    place.press("a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    assert place.judgements() == []
    while not held:  # the browser asks before it tells this process
        page.wait_for_timeout(20)
    held[0].continue_()
    place.wait_for_judgements(1)


def test_an_item_that_was_just_submitted_does_not_come_again(place: Place) -> None:
    """The one after the next was asked for before the server had the submission, and came when that was taken in."""
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    first = page.locator("[data-lease]").get_attribute("data-lease")
    address = f"{place.server.address}/api/projects/{place.name}/next?kind=ranking"
    headers = {"Accept": "text/html", "Origin": place.server.address}
    stale = page.request.post(address, headers=headers)
    assert f'data-lease="{first}"' in stale.text()

    def late(route: Route) -> None:
        while not place.judgements():
            time.sleep(0.02)
        time.sleep(0.3)  # the browser has heard of it
        route.fulfill(response=stale)

    page.route("**/next?*", late, times=1)
    place.press("a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    place.wait_for_judgements(1)
    page.wait_for_load_state("networkidle")
    place.press("a", "b", "c", "d", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "9")


def test_a_lost_answer_is_sent_again_and_taken_once(place: Place) -> None:
    """The server had the first one; only its reply was lost."""
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    keys: list[str | None] = []

    def lose(route: Route) -> None:
        keys.append(route.request.post_data_json["idempotency_key"])
        route.fetch()
        if len(keys) == 1:
            route.abort()
        else:
            route.continue_()

    page.route("**/submit", lose)
    place.press("a", "b", "Control+Enter")
    expect(page.locator("[data-line]")).to_contain_text("No connection. Your last answer is kept on this device")
    expect(page.locator("[data-line] p")).to_be_hidden()
    assert waiting(page) == []
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert len(place.judgements()) == 1


def test_work_goes_on_without_a_connection(place: Place, context: BrowserContext) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    place.server.stop()
    place.press("a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    place.press("a", "b", "c", "d", "Control+Enter")  # the one that was ready; no third one
    expect(page.locator("[data-line]")).to_contain_text(re.compile("kept on this device"))
    page.close()  # and even the page is closed
    place.server.start()
    place.page = context.new_page()
    place.open("ranking")
    first, second = place.wait_for_judgements(2)
    assert first.answer["ranking"] == [[0], [1]]
    assert second.answer["ranking"] == [[0], [1], [2], [3]]
    expect(place.page.locator(".ranking")).to_have_attribute("data-count", "9")


def test_an_answer_that_an_older_page_left_is_sent(place: Place) -> None:
    """Kept in the browser by a version that wrote to other addresses."""
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    lease = page.locator("[data-lease]").get_attribute("data-lease")
    body = {"lease": lease, "seconds": 5, "draft": {}, "judgement": {"ranking": [[1], [0]]}}
    entries = [{"url": f"/work/{place.name}/submit", "body": body, "key": "an-older-key"}]
    page.evaluate(
        """entries => {
        localStorage.setItem('heedful:outbox:' + document.documentElement.dataset.person, JSON.stringify(entries));
    }""",
        entries,
    )
    page.reload()
    (past,) = place.wait_for_judgements(1)
    assert (past.answer["ranking"], past.seconds) == ([[1], [0]], 5)
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")


def test_an_answer_that_an_older_page_leaves_later_is_sent(place: Place) -> None:
    """Two tabs: one still runs the older version."""
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    lease = page.locator("[data-lease]").get_attribute("data-lease")
    body = {"lease": lease, "seconds": 5, "draft": {}, "judgement": {"ranking": [[1], [0]]}}
    entries = [{"url": f"/work/{place.name}/submit", "body": body, "key": "an-older-key"}]
    page.evaluate(
        """entries => {
        localStorage.setItem('heedful:outbox:' + document.documentElement.dataset.person, JSON.stringify(entries));
        dispatchEvent(new Event('online'));
    }""",
        entries,
    )
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[1], [0]]
    expect(page.locator("[data-today]")).to_contain_text("1 today")
    assert waiting(page) == []


def waiting(page: Page) -> list[str]:
    """What the browser keeps of submissions."""
    found: list[str] = page.evaluate("""() => Object.entries(localStorage)
        .filter(([name, kept]) => name.startsWith('heedful:outbox:') && kept !== '[]').map(([, kept]) => kept)""")
    return found


def sign_in_another(place: Place, context: BrowserContext) -> int:
    with place.store.writing() as db:
        other = people.add_person(db, f"other of {place.name}", None, datetime.now(UTC))
        people.join(db, place.project_id, other.id, "labeler", datetime.now(UTC))
        secret = people.new_token(db, other.id, "session", datetime.now(UTC), days=1)[1]
        number = other.id
    context.add_cookies([{"name": place.server.app.state.cookie, "value": secret, "url": place.server.address}])
    return number


def test_work_is_never_stored_under_another_account(place: Place, context: BrowserContext) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    cookies = context.cookies()
    other = sign_in_another(place, context)
    place.press("a", "b", "Control+Enter")
    expect(page.locator("[data-line]")).to_contain_text("Another account is signed in on this browser")
    assert len(waiting(page)) == 1
    second = context.new_page()
    second.goto(f"{place.address}/ranking")
    second.wait_for_load_state("networkidle")
    second.close()
    assert len(waiting(page)) == 1
    with place.store.reading() as db:
        assert work.history(db, place.project_id, other) == []
    context.add_cookies(cookies)  # type: ignore[arg-type]
    place.open("ranking")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[0], [1]]


def test_a_second_tab_takes_back_nothing_that_is_on_its_way(place: Place, context: BrowserContext) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    page.route("**/submit", lambda route: held.append(route))
    place.press("a", "b", "Control+Enter")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    while not held:
        page.wait_for_timeout(20)
    (kept,) = waiting(page)
    assert json.loads(kept)["sent"] is True  # before any answer came
    tab = context.new_page()
    tab.goto(f"{place.address}/ranking")
    tab.wait_for_load_state("domcontentloaded")
    tab.keyboard.press("u")
    expect(tab.locator("[data-line]")).to_contain_text("Your last answer is being sent")
    tab.close()
    held[0].continue_()
    place.wait_for_judgements(1)
    expect(page.locator("[data-today]")).to_contain_text("1 today")
    place.press("u")
    expect(page.locator(".ranking")).to_have_attribute("data-count", "2")
    assert waiting(page) == []


def test_a_full_browser_still_sends(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    place.press("a", "b", "Control+Enter")
    place.wait_for_judgements(1)
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")


def test_the_guide_that_changed_is_told_once(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    with place.store.writing() as db:
        projects.write_instruction(db, place.project_id, "guide", "One.", datetime.now(UTC), by=None)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    expect(page.locator("[data-line] p")).to_be_hidden()
    with place.store.writing() as db:
        projects.write_instruction(db, place.project_id, "guide", "Two.", datetime.now(UTC), by=None)
    place.press("a", "b", "Control+Enter")  # the one that was ready was given under the first
    expect(page.locator(".ranking")).to_have_attribute("data-count", "4")
    expect(page.locator("[data-line] p")).to_be_hidden()
    page.wait_for_load_state("networkidle")
    place.press("a", "b", "c", "d", "Control+Enter")
    expect(page.locator("[data-line] a")).to_have_text("Read it")
    page.reload()
    expect(page.locator("[data-line] p")).to_be_hidden()


def test_a_consent_text_that_changed_comes_before_the_next_item(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE, samples.NINE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    with place.store.writing() as db:
        projects.write_instruction(db, place.project_id, "consent", "Other terms.", datetime.now(UTC), by=None)
    place.press("a", "b", "Control+Enter")
    expect(page.locator("h1")).to_have_text("What happens to your work")
    place.wait_for_judgements(1)


def test_signed_out_in_between(place: Place, context: BrowserContext) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    page = place.open("ranking")
    page.wait_for_load_state("networkidle")
    cookies = context.cookies()
    context.clear_cookies()
    place.press("a", "b", "Control+Enter")
    expect(page.locator("[data-line] a")).to_have_text("Sign in again")
    context.add_cookies(cookies)  # type: ignore[arg-type]
    place.open("ranking")
    (past,) = place.wait_for_judgements(1)
    assert past.answer["ranking"] == [[0], [1]]


def test_practice_explains_itself(place: Place) -> None:
    with place.store.writing() as db:
        people.change_member(db, place.project_id, place.person_id, datetime.now(UTC), by=None, phase="practice")
    place.settings(rate_first=False)
    place.add(
        "ranking", samples.NOTE, purpose="practice", gold={"ranking": [[0], [3], [1, 2]]},
        explanations=["**A** keeps the tone. *D* invents a brother."],
    )  # fmt: skip
    page = place.open("ranking")
    expect(page.locator(".task-head .tag")).to_have_text("Practice: an explanation follows")
    place.press("a", "b", "c", "d", "Control+Enter")
    answered = page.locator("dialog#answered")
    expect(answered.locator(".explanation strong")).to_have_text("A")
    expect(answered.locator(".tier-list").first.locator("li")).to_have_count(4)
    expect(answered.locator(".tier-list").last.locator("li")).to_have_count(3)
    place.press("Enter")
    expect(answered).to_be_hidden()


def test_consent_comes_first(place: Place) -> None:
    from heedful.web.text import defaults

    with place.store.writing() as db:
        projects.write_instruction(db, place.project_id, "consent", defaults.CONSENT, datetime.now(UTC), by=None)
    place.add("ranking", samples.TWO)
    page = place.open("ranking")
    expect(page.locator("h1")).to_have_text("What happens to your work")
    page.get_by_role("button", name="I agree").press("Enter")
    expect(page.locator(".ranking")).to_be_visible()
    place.open("consent")
    expect(page.locator(".agreed")).to_contain_text("You agreed on")


@pytest.mark.parametrize(("why", "title"), [
    ("empty", "No more rankings for now"), ("paused", "Your account is paused"), ("archived", "This project is closed"),
    ("in_other_hands", "Others are working on the remaining rankings"), ("screened", "Your answers are with the lead"),
])  # fmt: skip
def test_there_is_a_page_for_no_work(place: Place, context: BrowserContext, why: str, title: str) -> None:

    now = datetime.now(UTC)
    with place.store.writing() as db:
        if why == "paused":
            people.change_member(db, place.project_id, place.person_id, now, by=None, paused=True)
        elif why == "archived":
            projects.archive(db, place.project_id, now)
        elif why == "screened":
            people.change_member(db, place.project_id, place.person_id, now, by=None, phase="screening")
    if why == "in_other_hands":
        place.add("ranking", samples.TWO)
        with place.store.writing() as db:
            other = people.add_person(db, f"other {place.name}", None, now)
            people.join(db, place.project_id, other.id, "labeler", now)
            work.next_task(db, place.project_id, other.id, now)
    page = place.open("ranking")
    expect(page.locator("h1")).to_have_text(title)
    undo = page.get_by_role("button", name="undo last")
    if why in ("paused", "archived"):  # who could not submit anew takes nothing back
        expect(undo).to_have_count(0)
        place.press("u", "?")
        expect(page.locator("dialog#keys")).not_to_contain_text("undo")
        expect(page.locator("[data-line] p")).to_be_hidden()
    else:
        expect(undo).to_be_visible()
        place.press("u")
        expect(page.locator("[data-line]")).to_contain_text("Not undone")


@pytest.mark.parametrize("kind", ["ranking", "choice", "demonstration"])
def test_what_is_missing_and_what_comes_next_is_announced(place: Place, kind: str) -> None:
    place.settings(rate_first=False)
    rows = {"ranking": samples.TWO, "choice": samples.CHOICE, "demonstration": samples.DEMONSTRATION}
    place.add(kind, *(rows[kind] | {"prompt": prompt} for prompt in ("First?", "And now?", "And then?")))
    page = place.open(kind)
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="Submit")).to_have_accessible_description(re.compile("^To submit, "))
    said = page.locator("[data-missing]")
    expect(said).to_have_role("status")
    said.evaluate("""said => {
        window.spoken = [];
        new MutationObserver(() => window.spoken.push(said.textContent)).observe(said, { childList: true });
    }""")
    place.press("Control+Enter")  # a region that is read out when it changes
    page.wait_for_function("() => window.spoken.at(-1)?.startsWith('To submit, ')")
    if kind == "demonstration":
        page.keyboard.type("Gladly.")
    place.press(*{"ranking": "ab", "choice": "a", "demonstration": ""}[kind], "Control+Enter")
    focused = page.locator("textarea" if kind == "demonstration" else "h1")
    expect(page.locator(".prompt")).to_contain_text("And now?")
    expect(focused).to_be_focused()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)  # the next one is ready
    place.press("Escape", "s", "3", "Enter")
    expect(page.locator(".prompt")).to_contain_text("And then?")
    expect(focused).to_be_focused()


def test_own_project_only(place: Place, context: BrowserContext) -> None:
    """The page of another project answers as if there were none."""
    cookies = context.cookies()
    other = new_place(place.server, context, "other")
    context.add_cookies(cookies)  # type: ignore[arg-type]
    response = place.page.goto(f"{other.address}/ranking")
    assert response is not None
    assert response.status == 404
