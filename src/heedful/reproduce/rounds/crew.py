"""Simulated labelers and a lead. They work through the JSON API of the labelling app, with tokens of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import httpx

from heedful.config import UserError
from heedful.data.records import Completions, as_text
from heedful.files import Row
from heedful.sandbox import labelers
from heedful.sandbox.labelers import Labeler
from heedful.sandbox.world import World

READS = (140.0, 260.0)
"""Words a minute that a labeler reads and thinks."""
HURRY = (1.0, 2.5)
"""Seconds that a careless labeler takes for a task."""
HASTE = 4
"""Tasks that a careless labeler does while another does one."""


class CrewMember:
    """One account at the API, in one project."""

    def __init__(self, address: str, project: str, token: str) -> None:
        self._path = f"/api/projects/{project}"
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=120, trust_env=False)

    def send(self, method: str, path: str, body: Row | None = None) -> Any:
        """The JSON of a response. Raises UserError for a refusal."""
        response = self.http.request(method, self._path + path, json=body)
        if response.is_error:
            raise UserError(f"{self._path}{path}: status {response.status_code}, {response.text[:300]}")
        return response.json() if response.content else None

    def task(self) -> Row | None:
        """The next ranking, or None if nothing is left. Agrees to the text of consent where it is asked."""
        found = self.send("POST", "/next?kind=ranking")
        if found["why"] == "consent":
            self.send("POST", "/consent", {"version": self.send("GET", "/consent")["version"]})
            found = self.send("POST", "/next?kind=ranking")
        task: Row | None = found["task"]
        return task

    def close(self) -> None:
        self.http.close()


class Crew:
    """The labelers of a world by name, with their tokens."""

    def __init__(self, world: World, hired: Sequence[Labeler], tokens: dict[str, str], seed: str) -> None:
        self.world, self.hired, self.tokens, self.rng = world, hired, tokens, Random(f"crew {world.seed} {seed}")

    def label(
        self, address: str, project: str, *, careless: str = "", every: int = 0, look: Callable[[], None] | None = None
    ) -> int:
        """All labelers take turns until nothing is left for them. Returns the number of labels.

        `careless` names one who ranks at random and in haste. `look` is called after each `every` labels.
        """
        members = {one.name: CrewMember(address, project, self.tokens[one.name]) for one in self.hired}
        waiting, done = {one.name: one for one in self.hired}, 0
        try:
            while waiting:
                for name, one in list(waiting.items()):
                    for _ in range(HASTE if name == careless else 1):
                        if not self._judge(members[name], one, careless=name == careless):
                            del waiting[name]
                            break
                        done += 1
                        if look is not None and done % every == 0:
                            look()
        finally:
            for member in members.values():
                member.close()
        return done

    def _judge(self, member: CrewMember, one: Labeler, *, careless: bool) -> bool:
        """Rank and rate one item. False if there is none."""
        task = member.task()
        if task is None:
            return False
        given = Completions.model_validate({"prompt": task["prompt"], "completions": task["completions"]})
        ranking, ratings = labelers.rank(self.world, given.prompt, given.completions, one, self.rng)
        words = sum(len(text.split()) for text in (as_text(given.prompt), *given.completions))
        seconds = 2.0 + 60 * words / self.rng.uniform(*READS)
        if careless:
            ranking, seconds = self._at_random(len(given.completions)), self.rng.uniform(*HURRY)
        rows = [{name: value for name, value in rating.row().items() if value is not None} for rating in ratings]
        body = {"answer": {"ranking": ranking, "ratings": rows}, "idempotency_key": f"label-{task['lease']}"[:100]}
        member.send("POST", f"/tasks/{task['lease']}/submit", body | {"seconds": round(seconds, 1)})
        return True

    def _at_random(self, count: int) -> list[list[int]]:
        order = list(range(count))
        self.rng.shuffle(order)
        return [[place] for place in order]


class Lead:
    """A lead who heeds alerts: they pause a labeler who is too fast, and hold back what was judged in haste."""

    def __init__(self, address: str, project: str, token: str) -> None:
        self.member = CrewMember(address, project, token)
        self.paused: dict[str, Row] = {}
        """What was found about each paused labeler: the share of hasty work, and the items that were held back."""

    def look(self) -> None:
        """Read the alerts and act on those about haste."""
        for alert in self.member.send("GET", "/agreement")["alerts"]:
            if alert["kind"] == "too_fast":
                self._pause(alert)

    def _pause(self, alert: Row) -> None:
        name, refs = alert["labeler"], alert["items"]
        if name not in self.paused:
            people = self.member.send("GET", "/people")
            number = next(one["id"] for one in people if one["name"] == name)
            self.member.send("PATCH", f"/people/{number}", {"paused": True, "why": alert["text"]})
        known = self.paused.get(name, {}).get("held", 0)
        for start in range(0, len(refs), 500):
            self.member.send("PATCH", "/items", {"refs": refs[start : start + 500], "held": alert["text"]})
        self.paused[name] = {"share": alert["figure"], "held": max(known, len(refs))}

    def close(self) -> None:
        self.member.close()
