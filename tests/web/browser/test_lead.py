"""A lead's whole session, from the first link to the deletion of a person's data, with labelers in other browsers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from heedful.feedback import people
from web.browser import led
from web.browser.led import answers, follow, question
from web.browser.place import Server
from web.site import jsonl

pytestmark = pytest.mark.slow
PASSWORD = "three quiet words"


def join(page: Page, link: str, name: str) -> None:
    page.goto(link)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def go(page: Page, where: str) -> None:
    follow(page.get_by_role("navigation", name="Main").get_by_role("link", name=where))


def invite(page: Page, group: str) -> str:
    go(page, "People")
    page.get_by_label("Group").fill(group)
    page.get_by_role("button", name="Create invitations").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    return page.locator(".link-once").inner_text()


def rank_all(page: Page) -> None:
    """Consent, then every ranking, the first answers best."""
    follow(page.get_by_role("button", name="I agree"))
    page.wait_for_url("**/ranking")
    page.wait_for_load_state()  # scripts are there
    for left in (2, 1):
        lease = page.locator("[data-lease]").get_attribute("data-lease")
        for key in ("a", "b", "c", "d", "Control+Enter"):
            page.keyboard.press(key)
        expect(page.locator(f'[data-lease="{lease}"]')).to_have_count(0)
        expect(page.locator("[data-today]")).to_contain_text(f"{3 - left} today")


def create_a_project(page: Page) -> None:
    page.get_by_label("Title").fill("Tea talk")
    expect(page.get_by_label("Short name")).to_have_value("tea-talk")
    page.get_by_label("Short name").fill("tea")
    page.get_by_label("Title").press_sequentially(" ")
    expect(page.get_by_label("Short name")).to_have_value("tea")
    follow(page.get_by_role("button", name="Create project"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Tea talk")
    go(page, "Settings")
    follow(page.get_by_role("navigation", name="Settings").get_by_role("link", name="Assignment"))
    page.get_by_label("Doubled items, %").fill("100")
    follow(page.get_by_role("button", name="Save"))
    expect(page.locator("[data-notice]")).to_have_text("Saved.")
    expect(page.get_by_label("Doubled items, %")).to_have_value("100")
    follow(page.get_by_role("link", name="Rubric"))
    page.get_by_role("button", name="Rank only").click()
    expect(page.locator("#rubric-preview")).to_contain_text("rank all answers at once")
    follow(page.get_by_role("button", name="Save"))
    expect(page.get_by_label("Rate each answer alone")).not_to_be_checked()


def import_two_items(page: Page) -> None:
    go(page, "Items")
    follow(page.get_by_role("link", name="Import", exact=True))
    rows = jsonl([{"prompt": question(i), "completions": answers(i)} for i in range(2)])
    page.locator("#file").set_input_files({"name": "march.jsonl", "mimeType": "text/plain", "buffer": rows})
    page.get_by_text("Purpose, priority, curation").click()
    page.get_by_label("Source").fill("web form")
    expect(page.get_by_text("Each becomes a ranking to make.")).to_be_visible()
    expect(page.get_by_text("Curation would keep 2 of 2")).to_be_visible()
    page.get_by_role("button", name="Import 2 items").click()
    expect(page.locator("#preview [role=status]")).to_contain_text("2 added to the queue.")


DROP = """(drop, files) => {
  const moved = new DataTransfer();
  for (const [name, text] of files) moved.items.add(new File([text], name, { type: "text/plain" }));
  drop.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
}"""


def test_a_file_is_dropped_or_a_text_is_pasted(server: Server, context: BrowserContext, lead_session: str) -> None:
    page = led.sign_in(server, context, lead_session)
    page.goto(f"{server.address}/lead/{led.NAME}/import")
    button = page.locator("[data-import]")
    expect(button).to_be_disabled()
    page.locator("[data-drop]").evaluate(DROP, [["fragen.csv", "frage,thema\nWarum?,Tee\n"]])
    expect(page.get_by_role("alert")).to_contain_text("unknown kind of rows")
    expect(button).to_be_disabled()
    page.get_by_label("frage").focus()
    page.get_by_label("frage").select_option("prompt=frage")
    expect(button).to_have_text("Import 1 item")
    expect(page.get_by_label("frage")).to_be_focused()  # the preview was drawn again
    page.locator("#file").set_input_files([])
    page.get_by_text("Or paste text").click()
    page.get_by_label("Prompts, one on a line").fill("Why do kettles sing at night?\nWhy is moss soft in spring?")
    expect(button).to_have_text("Import 2 items")
    button.click()
    expect(page.locator("#preview [role=status]")).to_contain_text("2 added to the queue.")
    expect(button).to_be_disabled()
    sampled = []
    for name, numbers in (("new", "12"), ("old", "234")):
        rows = jsonl([{"prompt": f"Moss {n}?", "completions": [f"{name} {n}"]} for n in numbers])
        sampled.append([f"{name}.jsonl", rows.decode()])
    page.locator("[data-drop]").evaluate(DROP, sampled)
    expect(page.locator("#preview")).to_contain_text("old.jsonl: 2 rows answer prompts that new.jsonl does not answer")
    expect(button).to_have_text("Import 1 item")
    page.locator("[data-drop]").evaluate(DROP, [*sampled, sampled[0]])
    expect(page.get_by_role("alert")).to_contain_text("These are 3 files.")
    expect(button).to_be_disabled()


def test_a_leads_session(tmp_path: Path, context: BrowserContext, browser: Browser) -> None:
    server = Server(tmp_path)
    with server.store.writing() as db:
        token = people.invite(db, None, "lead", datetime.now(UTC), by=None)[1]
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    join(page, f"{server.address}/join/{token}", "Ada")
    create_a_project(page)
    import_two_items(page)
    for name, group in (("Ines", "nurses"), ("Tom", "gardeners")):
        other = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        labeler = other.new_page()
        join(labeler, invite(page, group), name)
        rank_all(labeler)
        other.close()

    go(page, "Overview")
    expect(page.locator(".figures")).to_contain_text("Judgements still to come0")
    go(page, "Agreement")
    expect(page.locator(".figures")).to_contain_text("Items that several judged2")
    expect(page.get_by_role("cell", name="gardeners and nurses")).to_be_visible()
    go(page, "Items")
    follow(page.locator("tbody a").first)
    expect(
        page.locator("section", has=page.get_by_role("heading", name="History")).locator(".entries > li")
    ).to_have_count(2)

    go(page, "Snapshots")
    page.get_by_label("Name").fill("march")
    follow(page.get_by_role("button", name="Create snapshot"))
    expect(page.locator("tbody tr")).to_contain_text("comparisons4")
    with page.expect_download() as download:
        page.get_by_role("link", name="rows").click()
    assert len(Path(download.value.path()).read_text(encoding="utf-8").splitlines()) == 4

    go(page, "People")
    follow(page.get_by_role("link", name="Tom"))
    page.get_by_text("Remove from the project, or delete everything").click()
    page.get_by_label("Type the name to confirm").fill("tom")
    page.get_by_role("button", name="Delete account and data").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was deleted.")
    problems.clear()  # the refusal, which the console tells
    page.get_by_label("Type the name to confirm").fill("Tom")
    page.get_by_role("button", name="Delete account and data").click()
    expect(page.locator(".paths li")).to_contain_text("snapshots/tea/march")
    go(page, "Agreement")
    expect(page.get_by_role("paragraph").first).to_have_text("2 comparisons of answers")
    go(page, "Log")
    expect(page.locator("tbody tr").first).to_contain_text("delete")
    assert problems == []
    server.stop()
    server.store.close()
