"""A lead with a CSV of prompts and an endpoint, from `heedful label` to a trained reward model, in a browser."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import tiny
from endpoints.scripted import Endpoint, Reply, said, serving
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.files import read_json
from stages import worlds
from web.browser.fixtures import browser  # noqa: F401

pytestmark = pytest.mark.slow
PROMPTS, K = 30, 3
MOST_CLICKS = 12


def echo(number: int, body: dict[str, Any]) -> Reply:
    return said(f"{body['messages'][-1]['content']} Answer {body['seed'] % 1000}.")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(echo) as found:
        yield found


class Clicks:
    """A page on which every click counts."""

    def __init__(self, page: Page) -> None:
        self.page, self.count = page, 0
        page.set_default_timeout(60_000)

    def __call__(self, what: Locator, *, leads_on: bool = False) -> None:
        self.count += 1
        if not leads_on:
            return what.click()
        with self.page.expect_navigation():
            what.click()

    def choose(self, what: Locator, path: Path) -> None:
        self.count += 1
        what.set_input_files(path)


def rank_all(page: Page) -> None:
    """By keys alone: the longer answer is better."""
    for done in range(PROMPTS):
        task = page.locator("[data-lease]")
        lease = task.get_attribute("data-lease")
        for key in ("5", "Enter", "4", "Enter", "3", "Enter", "a", "b", "c", "Control+Enter"):
            page.keyboard.press(key)
        expect(page.locator(f'[data-lease="{lease}"]')).to_have_count(0)
        expect(page.locator("[data-today]")).to_have_text(re.compile(rf"^{done + 1} today\b"))


def test_a_csv_and_an_endpoint_become_a_reward_model(
    tmp_path: Path,
    endpoint: Endpoint,
    browser: Browser,  # noqa: F811
    python: Path,
) -> None:
    heedful = [python, "-m", "heedful"]
    table = tmp_path / "prompts.csv"
    table.write_text("question,topic\n" + "".join(f"Why is tea number {n} green?,tea\n" for n in range(PROMPTS)))
    model = worlds.save(tmp_path / "tiny", tiny.policy(), tiny.tokenizer())
    environment = os.environ | {"HEEDFUL_CACHE": str(tmp_path / "cache")}
    how: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}

    # 1) heedful label
    serving_command = [*heedful, "label", "--port", "0"]
    with subprocess.Popen(serving_command, stdout=subprocess.PIPE, **how) as server:
        try:
            assert server.stdout is not None
            link = next(found[0] for line in server.stdout if (found := re.findall(r"http\S+/join/\S+", line)))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            click = Clicks(page)
            in_the_browser(page, click, link, table, endpoint.ref)
            assert click.count <= MOST_CLICKS, click.count
        finally:
            server.terminate()
            server.wait(20)
    assert len(endpoint.requests) == PROMPTS * K

    # 2) heedful snapshot
    snapshot = [*heedful, "snapshot", "--records", "comparison", "--out", "snapshots/rankings"]
    made = subprocess.run(snapshot, capture_output=True, timeout=120, **how)
    assert made.returncode == 0, made.stderr
    rows = formats.read(tmp_path / "snapshots" / "rankings", Comparison)
    assert [len(row.completions) for row in rows] == [K] * PROMPTS
    assert {name for row in rows for name in row.models or ()} == {endpoint.ref}

    # 3) heedful reward
    training = [*heedful, "reward", "--model", model, "--data", "snapshots/rankings", "--out", "runs/reward"]
    trained = subprocess.run(training, capture_output=True, timeout=400, **how)
    assert trained.returncode == 0, trained.stderr
    manifest = read_json(tmp_path / "runs" / "reward" / "manifest.json")
    assert manifest["status"] == "finished"
    assert (tmp_path / "runs" / "reward" / "model" / "config.json").exists()


def in_the_browser(page: Page, click: Clicks, link: str, table: Path, model: str) -> None:
    refusals: list[str] = []
    page.on("response", lambda answer: refusals.append(answer.url) if answer.status >= 400 else None)
    page.goto(link)
    page.get_by_label("Name", exact=True).fill("Ada")
    page.get_by_label("Password").fill("three quiet words")
    click(page.locator("form.stack .button.primary"), leads_on=True)
    page.get_by_label("Title").fill("Tea talk")
    page.get_by_label("Short name").fill("tea")
    click(page.get_by_role("button", name="Create project"), leads_on=True)

    click(page.get_by_role("link", name="Import"), leads_on=True)
    click.choose(page.locator("#file"), table)
    expect(page.get_by_text(f"holds {PROMPTS} prompts")).to_be_visible()
    click(page.get_by_role("button", name=f"Import {PROMPTS} items"))
    click(page.get_by_role("link", name="Sample answers to them"), leads_on=True)

    page.locator("#models").fill(model)
    page.get_by_label("Answers of each model").fill(str(K))
    click(page.get_by_role("button", name="Start sampling"), leads_on=True)
    click(page.get_by_role("button", name="Add to the queue"), leads_on=True)  # it comes without loading the page
    click(page.get_by_role("link", name="Rank them yourself"), leads_on=True)
    click(page.get_by_role("button", name="I agree"), leads_on=True)
    page.wait_for_url("**/ranking")
    page.wait_for_load_state()
    rank_all(page)
    assert refusals == []
