"""A real server (`heedful label`) with a project, people who work, and somebody who looks on."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from heedful.feedback import people, projects
from heedful.feedback.store import Store
from heedful.web.security import passwords
from siege.onlooker import watching
from siege.table import Outcome

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import labelling_load as load

HERE = "127.0.0.1"
PASSWORD = "a correct horse battery"
PROJECT = load.NAME
API = f"/api/projects/{PROJECT}"
PAGE = f"/work/{PROJECT}/progress"


@dataclass
class Place:
    """A running server. `tokens`: of its labelers. `lead`: a lead's token."""

    server: Any
    store: Store
    folder: Path
    tokens: list[str]
    lead: str
    cookie: str = ""
    """Of the labeler who looks on."""
    last: dict[str, str] = field(default_factory=dict)
    """Headers of the last answer."""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def log(self) -> str:
        found: str = self.server._log.read_text(errors="replace")
        return found

    def memory(self) -> int:
        """The most memory that the server's process has taken, in bytes (Linux)."""
        lines = Path(f"/proc/{self.server._process.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def held(self) -> int:
        """How many connections the server's process holds. The client's end may be open for longer."""
        all_ = psutil.Process(self.server._process.pid).net_connections("tcp")
        return sum(one.laddr.port == self.server.port and one.status != psutil.CONN_LISTEN for one in all_)

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, source: str = HERE, **headers: str
    ) -> tuple[int, str]:
        """Status and text of an answer, on a connection of its own. `source`: the address from which it comes."""
        link = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120, source_address=(source, 0))
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", "Origin": self.origin, **headers}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        try:
            link.request(method, path, content, given)
            answer = link.getresponse()
            self.last = dict(answer.getheaders())
            return answer.status, answer.read().decode(errors="replace")
        finally:
            link.close()

    def sign_in(self, name: str, password: str = PASSWORD, source: str = HERE, **headers: str) -> int:
        status, _ = self.ask("POST", "/api/login", {"name": name, "password": password}, None, source, **headers)
        return status

    def cookies(self, name: str, source: str = HERE) -> str:
        """The cookies of a browser on which somebody has signed in."""
        link = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60, source_address=(source, 0))
        body = json.dumps({"name": name, "password": PASSWORD})
        link.request("POST", "/api/login", body, {"Content-Type": "application/json", "Origin": self.origin})
        found = link.getresponse().headers.get_all("Set-Cookie") or []
        link.close()
        return "; ".join(cookie.partition(";")[0] for cookie in found)

    @contextmanager
    def watched(self, outcome: Outcome, path: str = PAGE) -> Iterator[None]:
        with watching(outcome, self.server.port, self.cookie, path):
            yield
        outcome.add(tracebacks(self.log), tried=0)


def tracebacks(log: str) -> list[str]:
    """One line for each traceback in a log."""
    parts = log.split("Traceback (most recent call last):\n")[1:]
    ends = [
        next((line for line in part.splitlines() if line and not line.startswith((" ", "\t"))), "") for part in parts
    ]
    return [f"a traceback in the server's log: {end}"[:300] for end in ends]


def share_path() -> None:
    """Let the process of a server find what this one finds. It imports the module of the load generator again."""
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in sys.path if path))


@contextmanager
def running(folder: Path, where: str | None = None, *, labelers: int = 5, tasks: int = 60) -> Iterator[Place]:
    """A server on a new database: SQLite in the folder, or PostgreSQL by URL."""
    share_path()
    store = Store.open(where or str(folder / "heedful.db"))
    tokens, now = load.fill(store, labelers, tasks), datetime.now(UTC)
    with store.writing() as db:
        project = projects.the_one(db, PROJECT)
        consent = projects.version(db, project.id, "consent")
        for name in ("Lead", "Onlooker"):
            person = people.add_person(db, name, passwords.hash_password(PASSWORD), now)
            people.join(db, project.id, person.id, "lead" if name == "Lead" else "labeler", now)
            people.consent(db, project.id, person.id, consent or 1, now)
            if name == "Lead":
                lead = people.new_token(db, person.id, "api", now, name="siege")[1]
    server = load.Server(where or str(folder / "heedful.db"), folder)
    server.start()
    place = Place(server, store, folder, tokens, lead)
    try:
        place.cookie = place.cookies("Onlooker")
        yield place
    finally:
        server.stop()
        store.close()
