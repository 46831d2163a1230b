"""A real server on 127.0.0.1 with SQLite, and Debian's Chromium driving it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import BrowserContext, Page

from heedful.data.records import Completions, Prompt, Record
from heedful.feedback import items, people, projects
from heedful.feedback.judgements import PromptRequest, Versus
from heedful.feedback.store import Store
from heedful.web.app import create_app
from heedful.web.settings import WebSettings
from heedful.web.text import defaults

BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # as in scripts/browser
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), BROWSERS[0])
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
RECORDS: dict[str, type[Record]] = {
    "ranking": Completions,
    "demonstration": Prompt,
    "choice": Versus,
    "prompt": PromptRequest,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """The app in a thread; `stop` and `start` again on the same port, as when the connection is lost."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.store = Store.open(folder / "heedful.db")
        self.app = create_app(self.store, WebSettings(base_url=self.address, folder=folder))
        self.start()

    @classmethod
    def of(cls, app: FastAPI) -> Server:
        """An app that is there already."""
        self = cls.__new__(cls)
        self.port, self.app, self.store = free_port(), app, app.state.store
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()
        return self

    def start(self) -> None:
        config = uvicorn.Config(self.app, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join()


@dataclass
class Place:
    """A project with a labeler, and a page on which she is signed in."""

    server: Server
    page: Page
    project_id: int
    person_id: int
    name: str
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.server.store

    @property
    def address(self) -> str:
        return f"{self.server.address}/work/{self.name}"

    def later(self, minutes: float) -> None:
        """The server's clock goes on."""
        self.server.app.state.clock = lambda: datetime.now(UTC) + timedelta(minutes=minutes)

    def add(self, kind: str, *rows: dict[str, Any], **options: Any) -> None:
        """Items, in the order in which they shall come."""
        for place, row in enumerate(rows):
            given = {"priority": len(rows) - place, **options}
            gold = given.pop("gold", None)
            with self.store.writing() as db:
                items.add(
                    db, self.project_id, kind, [RECORDS[kind].model_validate(row)], datetime.now(UTC),
                    by=None, gold=None if gold is None else [gold], **given,
                )  # fmt: skip

    def settings(self, **changes: Any) -> None:
        with self.store.writing() as db:
            projects.change_settings(db, self.project_id, changes)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}/{path}")
        return self.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def judgements(self) -> list[Any]:
        """What the store holds of her, the oldest first."""
        from heedful.feedback import work

        with self.store.reading() as db:
            return work.history(db, self.project_id, self.person_id)[::-1]

    def wait_for_judgements(self, count: int) -> list[Any]:
        until = time.monotonic() + 20
        while len(found := self.judgements()) < count:
            assert time.monotonic() < until, f"{len(found)} judgements, not {count}"
            self.page.wait_for_timeout(20)
        return found


def new_place(server: Server, context: BrowserContext, title: str) -> Place:
    now = datetime.now(UTC)
    number = time.monotonic_ns()
    name = f"p{number}"
    with server.store.writing() as db:
        project = projects.create(db, name, now, title=title[:100], settings=QUIET)
        projects.write_instruction(db, project.id, "guide", defaults.GUIDE, now, by=None)
        person = people.add_person(db, f"L-{number % 1_000_000}", None, now)
        people.join(db, project.id, person.id, "labeler", now)
        _, secret = people.new_token(db, person.id, "session", now)
    context.add_cookies([{"name": server.app.state.cookie, "value": secret, "url": server.address}])
    page = context.new_page()
    place = Place(server, page, project.id, person.id, name)
    page.on("request", lambda request: place.requests.append(request.url))
    page.on("pageerror", lambda error: place.problems.append(str(error)))
    page.on("console", lambda message: _note(place, message.type, message.text))
    return place


QUIET = {"double_share": 0.0, "gold_share": 0.0, "attention_share": 0.0}


def _note(place: Place, kind: str, text: str) -> None:
    offline = "ERR_CONNECTION" in text or "ERR_INTERNET_DISCONNECTED" in text or "Failed to load resource" in text
    if kind == "error" and not offline:
        place.problems.append(text)
