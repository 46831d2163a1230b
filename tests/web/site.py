"""A server in memory with people of every role, for tests of the web's routes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from heedful.data.records import Completions, Prompt
from heedful.feedback import items, people, projects
from heedful.feedback.schema import Role
from heedful.feedback.store import Store
from heedful.web.app import create_app
from heedful.web.new_project import create_project
from heedful.web.settings import WebSettings

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MEMBERS: tuple[Role, ...] = ("lead", "labeler", "held_out", "reader")
HOST = "http://testserver"


class Site:
    """A store with project `tea` (its members named by their roles), an administrator who is in no project, and
    `outsider`, a lead of project `other`; and clients for all of them.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.now = folder, START
        self.store = Store.open(folder / "heedful.db")
        self.settings = WebSettings(**{"base_url": HOST, "folder": folder} | settings)
        self.app = create_app(self.store, self.settings)
        self.app.state.clock = lambda: self.now
        self.ids: dict[str, int] = {}
        with self.store.writing() as db:
            for name in (*MEMBERS, "outsider", "admin"):
                self.ids[name] = people.add_person(db, name, None, START, admin=name == "admin").id
            tea = create_project(
                db, "tea", "Tea talk", START, by=self.ids["lead"], settings={"double_share": 0, "gold_share": 0}
            )
            other = create_project(db, "other", "Other", START, by=self.ids["outsider"])
            self.project_id = tea.id
            for role in MEMBERS[1:]:
                people.join(db, tea.id, self.ids[role], role, START, group="brief" if role == "labeler" else None)
            for name in ("lead", "labeler", "held_out"):
                self.consent(db, tea.id, self.ids[name])
            assert other.id != tea.id

    def consent(self, db: Any, project_id: int, person_id: int) -> None:
        text = projects.instruction(db, project_id, "consent")
        assert text is not None
        people.consent(db, project_id, person_id, text.version, START)

    def browser(self, name: str | None = None) -> TestClient:
        """Signed in as somebody, as a page of this server would send its requests."""
        client = TestClient(self.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False)
        if name is not None:
            with self.store.writing() as db:
                client.cookies.set(
                    self.app.state.cookie, people.new_token(db, self.ids[name], "session", self.now, days=1)[1]
                )
        return client

    def script(self, name: str) -> TestClient:
        """With a token of somebody."""
        with self.store.writing() as db:
            token = people.new_token(db, self.ids[name], "api", self.now, name="test")[1]
        headers = {"Authorization": f"Bearer {token}"}
        return TestClient(self.app, base_url=HOST, headers=headers, follow_redirects=False)

    def wait(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def add_rankings(self, count: int, K: int = 3, start: int = 0, **options: Any) -> tuple[str, ...]:
        rows = [
            Completions(prompt=f"Question {i}?", completions=[f"Answer {i}.{k}" for k in range(K)], models=["m"] * K)
            for i in range(start, start + count)
        ]
        with self.store.writing() as db:
            return items.add(db, self.project_id, "ranking", rows, self.now, by=None, **options).refs

    def add_prompts(self, count: int, **options: Any) -> tuple[str, ...]:
        rows = [Prompt(prompt=f"Write about {i}.") for i in range(count)]
        with self.store.writing() as db:
            return items.add(db, self.project_id, "demonstration", rows, self.now, by=None, **options).refs

    def settle(self, **changes: Any) -> None:
        with self.store.writing() as db:
            projects.change_settings(db, self.project_id, changes)


def rank(client: TestClient, ranking: list[list[int]] | None = None, seconds: float = 60) -> Any:
    """Take the next ranking and submit it, by places; the answer of the API."""
    task = client.post("/api/projects/tea/next").json()["task"]
    assert task is not None, "no task"
    places = ranking or [[place] for place in range(len(task["completions"]))]
    answer = {"ranking": places, "ratings": [{"overall": 4} for _ in task["completions"]]}
    body = {"answer": answer, "idempotency_key": secrets.token_hex(8), "seconds": seconds}
    answered = client.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body)
    assert answered.status_code == 200, answered.text
    return answered.json()


def jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
