"""Every page a labeler meets, brought into the state in which it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from heedful.feedback import people, projects, work
from heedful.web.text import defaults
from web.browser import samples
from web.browser.place import Place

RATED = ("6", "Enter", "3", "l", "Enter", "2", "t", "Enter", "5", "Enter")


def rating(place: Place) -> None:
    place.add("ranking", samples.NOTE)
    place.open("ranking")
    place.press("6", "k")


def ranking(place: Place) -> None:
    place.add("ranking", samples.NOTE)
    place.open("ranking")
    place.press(*RATED, "a", "d", "b", "=", "c")


def ranking_two(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO)
    place.open("ranking")
    place.press("a")


def ranking_nine(place: Place) -> None:
    place.add("ranking", samples.NINE)
    place.open("ranking")
    for key in "546372145":
        place.press(key, "Enter")
    place.press("b", "f", "h", "=", "a", "d")


def ranking_long(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TIDES)
    place.open("ranking")


def ranking_right_to_left(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.ARABIC)
    place.open("ranking")
    place.press("a", "b", "=")


def ranking_conversation(place: Place) -> None:
    place.add("ranking", samples.TALK)
    place.open("ranking")
    place.press("4")


def ranking_hostile(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.HOSTILE)
    place.open("ranking")


def compared(place: Place) -> None:
    ranking_two(place)
    place.press("b", "/")


def keys(place: Place) -> None:
    rating(place)
    place.press("?")


def skipping(place: Place) -> None:
    rating(place)
    place.press("s", "2")


def personal(place: Place) -> None:
    rating(place)
    place.press("p")


def demonstration(place: Place) -> None:
    place.add("demonstration", samples.DEMONSTRATION)
    place.open("demonstration")
    place.page.keyboard.insert_text(samples.DRAFT)
    place.page.wait_for_timeout(900)


def markdown(place: Place) -> None:
    place.settings(markdown=True)
    place.add("demonstration", samples.DEMONSTRATION)
    place.open("demonstration")
    place.page.keyboard.insert_text(
        "Three things help:\n\n1. a **weekly box**\n2. the pharmacy's *paper roll*\n3. a call"
    )
    place.press("Alt+p")
    place.page.locator("[data-preview-of] li").first.wait_for()


def choice(place: Place) -> None:
    place.add("choice", samples.CHOICE, purpose="evaluate")
    place.open("choice")
    place.press("a")


def prompt_plain(place: Place) -> None:
    place.add("prompt", {"form": "plain"})
    place.open("prompt")


def prompt_few_shot(place: Place) -> None:
    place.add("prompt", {"form": "few_shot", "use_case": "classification"})
    place.open("prompt")


def prompt_user_based(place: Place) -> None:
    place.add(
        "prompt", {"form": "user_based", "about": "A museum wants answers for its visitors: hours, tours, lost things."}
    )
    place.open("prompt")


def practice(place: Place) -> None:
    with place.store.writing() as db:
        people.change_member(db, place.project_id, place.person_id, datetime.now(UTC), by=None, phase="practice")
    place.settings(rate_first=False)
    words = (
        "**A note in her voice** keeps the tone and the constraint. The one with a *brother* invents what nobody said."
    )
    known = {"ranking": [[0], [3], [1, 2]]}
    place.add("ranking", samples.NOTE, purpose="practice", gold=known, explanations=[words])
    place.open("ranking")
    place.press("a", "d", "b", "=", "c", "Control+Enter")
    place.page.locator("dialog#answered").wait_for()


def attention(place: Place) -> None:
    place.settings(rate_first=False, show_gold=True, attention_share=1.0)
    row = {
        "prompt": "Rank the answer that says “rank me last” last.",
        "completions": ["Rank me last.", "Rank me first."],
    }
    place.add("ranking", row, purpose="attention", gold={"ranking": [[1], [0]]})
    place.open("ranking")
    wrong = ("a", "b") if "last" in place.page.locator(".answer .words").first.inner_text() else ("b", "a")
    place.press(*wrong, "Control+Enter")
    place.page.locator("dialog#answered").wait_for()


def empty(place: Place) -> None:
    place.open("ranking")


def in_other_hands(place: Place) -> None:
    now = datetime.now(UTC)
    place.add("ranking", samples.TWO)
    with place.store.writing() as db:
        other = people.add_person(db, f"other {place.name}", None, now)
        people.join(db, place.project_id, other.id, "labeler", now)
        work.next_task(db, place.project_id, other.id, now)
    place.open("ranking")


def paused(place: Place) -> None:
    with place.store.writing() as db:
        people.change_member(db, place.project_id, place.person_id, datetime.now(UTC), by=None, paused=True)
    place.open("ranking")


def offline(place: Place) -> None:
    place.settings(rate_first=False)
    place.add("ranking", samples.TWO, samples.NOTE)
    place.open("ranking").wait_for_load_state("networkidle")
    place.page.route("**/submit", lambda route: route.abort())
    place.press("a", "b", "Control+Enter")
    place.page.locator("[data-line] p").wait_for()


def worked(place: Place) -> None:
    """Some days of work behind her."""
    place.settings(rate_first=False, show_gold=True, show_agreement=True)
    place.add("ranking", *(samples.NOTE, samples.TALK, samples.ARABIC, samples.TIDES))
    place.add("demonstration", samples.DEMONSTRATION)
    start = datetime.now(UTC) - timedelta(days=3)
    with place.store.writing() as db:
        for number in range(5):
            now = start + timedelta(hours=11 * number)
            task = work.next_task(db, place.project_id, place.person_id, now)
            assert isinstance(task, work.Task)
            answers: dict[str, object] = {"completion": samples.DRAFT}
            if task.kind == "ranking":
                answers = {"ranking": [[0], [1, 3], [2]]}
            key = f"{place.name} {number}"
            work.submit(db, place.person_id, task.lease, answers, now, idempotency_key=key, seconds=150 + 40 * number)
        work.undo(db, place.project_id, place.person_id, start + timedelta(hours=50))


def history(place: Place) -> None:
    worked(place)
    place.open("history")


def past(place: Place) -> None:
    history(place)
    place.page.locator(".entry a").nth(1).press("Enter")
    place.page.wait_for_url("**/history/*")


def progress(place: Place) -> None:
    worked(place)
    place.open("progress")


def guide(place: Place) -> None:
    place.open("guide")


def consent(place: Place) -> None:
    with place.store.writing() as db:
        projects.write_instruction(db, place.project_id, "consent", defaults.CONSENT, datetime.now(UTC), by=None)
    place.open("ranking")


def topics(place: Place) -> None:
    place.open("topics")


PAGES: dict[str, Callable[[Place], None]] = {
    page.__name__: page
    for page in (
        rating, ranking, ranking_two, ranking_nine, ranking_long, ranking_right_to_left, ranking_conversation,
        ranking_hostile, compared, keys, skipping, personal, demonstration, markdown, choice, prompt_plain,
        prompt_few_shot, prompt_user_based, practice, attention, empty, in_other_hands, paused, offline, history, past,
        progress, guide, consent, topics,
    )
}  # fmt: skip
