"""A project with some weeks of work behind it, and every page on which its lead looks at it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page

from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people, snapshots, work
from heedful.feedback.judgements import Versus
from heedful.feedback.schema import Role
from heedful.web.new_project import create_project
from web.browser import samples, used
from web.browser.place import Server

NAME, TITLE = "gardens", "Tea and gardens"
WEEKS, RANKINGS = 4, 45
PEOPLE: tuple[tuple[str, Role, str | None], ...] = (
    ("Marian", "labeler", "gardeners"), ("Tom", "labeler", "gardeners"), ("Ines", "labeler", "nurses"),
    ("Kofi", "labeler", "nurses"), ("hasty", "labeler", None), ("Uma", "held_out", None), ("Rolf", "reader", None),
)  # fmt: skip
TASKS = (
    "Explain to a child why {}.",
    "Write two lines for a sign that says {}.",
    "My neighbour thinks {}. Reply kindly.",
)
MATTERS = (
    "tea leaves sink", "the gate stays shut", "bees sleep in winter", "roses need a cut in March", "the kettle sings",
    "cats like boxes", "compost steams on cold days", "the pond is not for wading", "tomatoes are a fruit",
    "moss grows on the north side", "a watering can has a rose", "the shed is locked at six", "slugs fear copper",
    "the first frost comes early", "a hedge is trimmed after nesting",
)  # fmt: skip


def question(number: int) -> str:
    return TASKS[number % len(TASKS)].format(MATTERS[number // len(TASKS) % len(MATTERS)])


def answers(number: int) -> list[str]:
    """A good short one, a good long one, a beside-the-point one, and one that invents something."""
    matter = MATTERS[number // len(TASKS) % len(MATTERS)].capitalize()
    return [
        f"{matter}. That is all there is to it, and it is no trouble to anybody.",
        f"{matter}, and there is a reason for it. " + "One thing leads to the next, slowly and in plain sight. " * 3,
        "You should think about what you would like to say and then say it in a friendly way.",
        f"{matter}, as Professor Hollow of Leiden proved in 1911.",
    ]


def populate(server: Server) -> str:
    """The project, once for each server; the session of its lead."""
    start = datetime.now(UTC) - timedelta(weeks=WEEKS)
    with server.store.writing() as db:
        lead = people.add_person(db, "Ada", None, start, admin=True)
        settings = {"double_share": 0.9, "copies": 4, "gold_share": 0.15, "attention_share": 0.0}
        project = create_project(db, NAME, TITLE, start, by=lead.id, settings=settings).id
        ids = {name: people.add_person(db, name, None, start).id for name, _, _ in PEOPLE}
        for name, role, group in PEOPLE:
            people.join(db, project, ids[name], role, start, group=group)
            people.consent(db, project, ids[name], 1, start)
        people.invite(db, project, "labeler", start + timedelta(weeks=WEEKS), by=lead.id, group="nurses", note="Jo")
        rows = [
            Completions(prompt=question(i), completions=answers(i), models=["runs/sft", "runs/ppo"] * 2)
            for i in range(RANKINGS)
        ]
        refs = items.add(db, project, "ranking", rows, start, by=lead.id, source="web form, March").refs
        for ref in refs[:2]:
            known = {"ranking": [[0, 1], [2], [3]]}
            items.set_gold(db, project, ref, "gold", known, "It invents *a professor*.", start, by=lead.id)
        items.add(db, project, "ranking", [Completions.model_validate(samples.HOSTILE)], start, by=lead.id)
        asked = [Prompt.model_validate(samples.DEMONSTRATION), *(Prompt(prompt=question(i)) for i in range(9))]
        items.add(db, project, "demonstration", asked, start, by=lead.id)
        versus = [Versus.model_validate(samples.CHOICE)]
        items.add(db, project, "choice", versus, start, by=lead.id, purpose="evaluate")
        items.change(db, project, refs[3], start, by=lead.id, held="names a person")
        people.change_member(db, project, ids["hasty"], start, by=lead.id, paused=True, why="Let us talk first.")
        people.change_member(db, project, ids["hasty"], start, by=lead.id, paused=False)
        _, session = people.new_token(db, lead.id, "session", datetime.now(UTC))
    _work(server, project, ids, start)
    root = Path(server.app.state.settings.folder)
    used.populate(server.store, root, project, NAME, start)
    folder = root / "snapshots" / NAME / "march"
    filters = snapshots.Filters(records="comparison")
    snapshots.freeze(server.store, project, folder, filters, datetime.now(UTC), by=lead.id)
    return session


def _work(server: Server, project: int, ids: dict[str, int], start: datetime) -> None:
    rng = Random(7)
    groups = {name: group for name, role, group in PEOPLE if role == "labeler"}
    for day in range(0, 7 * WEEKS, 2):
        for name, group in groups.items():
            for turn in range(2 + day % 2):
                now = start + timedelta(days=day, hours=2 * turn + rng.random())
                with server.store.writing() as db:
                    task = work.next_task(db, project, ids[name], now, kind="ranking" if turn or day % 6 else None)
                    if not isinstance(task, work.Task):
                        continue
                    answer = _answer(task, name, group, rng)
                    seconds = 3.0 if name == "hasty" else 60 + 90 * rng.random()
                    key = f"{name} {day} {turn} led"
                    work.submit(db, ids[name], task.lease, answer, now, idempotency_key=key, seconds=seconds)
    with server.store.writing() as db:
        work.undo(db, project, ids["Marian"], datetime.now(UTC))


def _answer(task: work.Task, name: str, group: str | None, rng: Random) -> dict[str, Any]:
    if task.kind == "demonstration":
        return {"completion": samples.DRAFT}
    K = len(task.completions)
    order = list(range(K))
    if name != "hasty":
        weight = -1 if group == "gardeners" else 1  # gardeners like it short, nurses at length
        worth = [weight * min(len(text), 300) / 100 - 4 * ("Hollow" in text) - 3 * ("You should" in text)
                 for text in task.completions]  # fmt: skip
        order = sorted(order, key=lambda place: -worth[place] - 1.2 * rng.random())
    flags = [{"overall": 4 if name == "hasty" else max(1, 6 - order.index(place)),
              "hallucination": "Hollow" in task.completions[place]} for place in range(K)]  # fmt: skip
    return {"ranking": [[place] for place in order], "ratings": flags}


def sign_in(server: Server, context: BrowserContext, session: str) -> Page:
    context.add_cookies([{"name": server.app.state.cookie, "value": session, "url": server.address}])
    return context.new_page()


def follow(link: Locator) -> None:
    """Click on what leads to another page, and be there: a click alone returns while the old page still stands."""
    with link.page.expect_navigation():
        link.click()


def at(path: str, *opened: str) -> Callable[[Page, str], None]:
    """A page by its address below the project, with some details opened."""

    def show(page: Page, address: str) -> None:
        page.goto(f"{address}/lead/{NAME}{path}")
        for summary in opened:
            page.locator(f"summary:has-text('{summary}')").first.click()

    return show


def _person(page: Page, address: str) -> None:
    at("/people")(page, address)
    follow(page.get_by_role("link", name="hasty").first)
    page.locator("summary:has-text('Remove from the project')").click()


def _item(page: Page, address: str) -> None:
    at("/items?kind=ranking&purpose=train&state=done")(page, address)
    follow(page.locator("tbody a").last)


def _hostile_item(page: Page, address: str) -> None:
    at("/items?kind=ranking&purpose=train")(page, address)
    follow(page.locator("tr:has-text('script') a").first)


def _invited(page: Page, address: str) -> None:
    at("/people")(page, address)
    page.get_by_role("button", name="Create invitations").click()
    page.locator(".link-once").wait_for()


def _preview(page: Page, address: str) -> None:
    at("/import")(page, address)
    rows = "".join(f'{{"prompt": "{question(i)}", "user": "u{i % 3}"}}\n' for i in range(12))
    rows += '{"prompt": "Write to anna@example.org that the kettle sings.", "user": "u9"}\n'
    page.locator("#file").set_input_files({"name": "march.jsonl", "mimeType": "text/plain", "buffer": rows.encode()})
    page.get_by_role("heading", name="The first rows").wait_for()


def _refused(page: Page, address: str) -> None:
    at("/import")(page, address)
    file = {"name": "march.jsonl", "mimeType": "text/plain", "buffer": b'{"promt": "A typing error"}\n'}
    page.locator("#file").set_input_files(file)  # type: ignore[arg-type]
    page.locator("[role=alert]").wait_for()


def _old_guide(page: Page, address: str) -> None:
    at("/instructions")(page, address)
    text = page.locator("textarea").input_value()
    page.locator("textarea").fill(text + f"\nWhere two answers are alike, tie them.{' ' * 3}\n")
    follow(page.get_by_role("button", name="Save as version"))
    follow(page.get_by_role("link", name="1", exact=True))


def _general(path: str) -> Callable[[Page, str], None]:
    return lambda page, address: page.goto(address + path) and None


LEAD_PAGES: dict[str, Callable[[Page, str], None]] = {
    "overview": at(""), "people": at("/people"), "invited": _invited, "person": _person,
    "items": at("/items"), "users": at("/users"), "item": _item, "hostile": _hostile_item, "import": at("/import"),
    "import_preview": _preview, "import_refused": _refused, "agreement": at("/quality"),
    "snapshots": at("/snapshots", "Filters"), "sampling": at("/sampling"), "rounds": at("/rounds"),
    "instructions": at("/instructions"),
    "old_guide": _old_guide, "settings": at("/settings"), "settings_work": at("/settings/work"),
    "settings_assignment": at("/settings/assignment"), "settings_labelers": at("/settings/labelers"),
    "settings_screening": at("/settings/screening"), "settings_alerts": at("/settings/alerts"),
    "rubric": at("/settings/rubric"),
    "log": at("/log"), "projects": _general("/projects"),
    "account": _general("/account"), "api": _general("/api/docs"), "nowhere": at("/nowhere"),
}  # fmt: skip
