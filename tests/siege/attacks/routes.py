"""Every route for everybody: fifteen roles and states, by cookie and by token, with the objects of somebody else."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

from starlette.testclient import TestClient

from heedful.feedback import people
from siege.work import Work
from web.site import HOST, Site
from web.test_roles import EXPECTED, FILLED, routes_of

TEA = "/api/projects/tea"
STATES = {
    "anonymous": "anonymous", "outsider": "outsider", "reader": "reader", "labeler": "labeler", "held_out": "held_out",
    "lead": "lead", "admin": "admin", "paused": "labeler", "screening": "labeler", "without_consent": "labeler",
    "of_an_archived_project": "outsider", "left": "outsider", "expired": "anonymous", "revoked": "anonymous",
    "deleted": "anonymous",
}  # fmt: skip
"""Each state with the role whose access it has."""
OPEN = ("/api/logout", "/api/login", "/api/join", "/api/password")  # whose access is a secret in the body
BASIC = ("anonymous", "outsider", "reader", "labeler", "held_out", "lead", "admin")
ENDED = {"expired", "revoked", "deleted"}
NOTE, DRAFT, GOLD, INVITED, OTHER = ("canary-note", "canary-draft", "canary-gold", "canary-invited", "canary-other")
OF_THE_PROJECT = {NOTE, DRAFT, GOLD, INVITED}
HIDDEN = {  # what nobody in this state may read, in any answer
    **{state: OF_THE_PROJECT | {OTHER} for state in STATES},
    "outsider": OF_THE_PROJECT, "reader": {DRAFT, OTHER}, "lead": {DRAFT, OTHER}, "admin": {DRAFT},
}  # fmt: skip


class City:
    """A site with somebody in every state, and objects that belong to one labeler, `owner`."""

    def __init__(self, folder: Path) -> None:
        self.site = site = Site(folder)
        with site.store.writing() as db:
            for name in ("owner", *(state for state in STATES if state not in BASIC)):
                person = people.add_person(db, name.replace("_", " "), None, site.now)
                site.ids[name] = person.id
                if name != "of_an_archived_project":
                    people.join(db, site.project_id, person.id, "labeler", site.now)
                if name != "without_consent":
                    site.consent(db, site.project_id, person.id) if name != "of_an_archived_project" else None
        self.filled = FILLED | self._objects()
        lead = site.browser("lead")
        changes = {"paused": {"paused": True}, "screening": {"phase": "screening"}, "left": {"left": True}}
        self._secrets = {state: self._secret(state) for state in STATES if state != "anonymous"}
        for state, change in changes.items():
            assert lead.patch(f"{TEA}/people/{site.ids[state]}", json=change).status_code == 200
        gone = lead.request("DELETE", f"{TEA}/people/{site.ids['deleted']}", json={"name": "deleted"})
        assert gone.status_code == 200, gone.text

    def _objects(self) -> dict[str, str]:
        site = self.site
        site.add_rankings(6)
        owner, lead = site.browser("owner"), site.browser("lead")
        task = owner.post(f"{TEA}/next").json()["task"]
        answer = {"ranking": [[0], [1], [2]], "ratings": [{"overall": 4}] * 3, "note": NOTE}
        body = {"answer": answer, "idempotency_key": secrets.token_hex(8)}
        event = owner.post(f"{TEA}/tasks/{task['lease']}/submit", json=body).json()["event"]
        lease = owner.post(f"{TEA}/next").json()["task"]["lease"]
        owner.put(f"{TEA}/tasks/{lease}/draft", json={"draft": {"note": DRAFT}})
        gold = {"answer": "1 > 2 > 3", "explanation": GOLD}
        assert lead.post(f"{TEA}/items/{task['ref']}/gold", json=gold).status_code == 201
        invited = lead.post(f"{TEA}/invitations", json={"notes": [INVITED]}).json()["invitations"][0]
        outsider = site.browser("outsider")
        outsider.post("/api/projects/other/instructions/guide", json={"text": OTHER})
        outsider.post("/api/projects/other/items", content=b'{"prompt": "%s"}\n' % OTHER.encode())
        return {
            "lease": lease, "ref": task["ref"], "event": str(event), "person_id": str(site.ids["owner"]),
            "invitation_id": str(invited["id"]), "token_id": "999",
        }  # fmt: skip

    def _secret(self, state: str) -> tuple[str, str]:
        """A session and a token of somebody, which their state may end."""
        with self.site.store.writing() as db:
            person, now = self.site.ids[state], self.site.now
            made = now - timedelta(days=400) if state == "expired" else now
            session = people.new_token(db, person, "session", made, days=1)[1]
            token = people.new_token(db, person, "api", made, name="siege", days=1)[1]
            if state == "revoked":
                people.revoke(db, session)
                people.revoke(db, token)
        return session, token

    def client(self, state: str, by_token: bool) -> TestClient:
        client = TestClient(self.site.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False,
                            raise_server_exceptions=False)  # fmt: skip
        if state != "anonymous":
            session, token = self._secrets[state]
            if by_token:
                client.headers["Authorization"] = f"Bearer {token}"
            else:
                client.cookies.set(self.site.app.state.cookie, session)
        return client


def attack(folder: Path, work: Work) -> None:
    """All of it in any form: it takes a minute. Less than a tenth: the states without those of the suite."""
    outcome, city = work.outcome, City(folder)
    states = list(STATES) if work.share >= 0.1 else ["paused", "left", "deleted"]
    try:
        routes = sorted(routes_of(city.site))
        described = city.site.browser("lead").get("/api/openapi.json").json()["paths"]
        named = {(method.upper(), path) for path, methods in described.items() for method in methods}
        unknown = (named | set(routes)) - set(EXPECTED) if not outcome.done else set()
        outcome.failed += [f"not in the table of routes: {route}" for route in unknown]
        for number in work.parts(len(states)):
            for by_token in (False, True) if states[number] != "anonymous" else (False,):
                client = city.client(states[number], by_token)
                for method, path in routes:
                    if path not in OPEN and (path.startswith("/api/") or not by_token):
                        outcome.add(_try(city, client, states[number], method, path))
    finally:
        city.site.store.close()


def _try(city: City, client: TestClient, state: str, method: str, path: str) -> list[str]:
    address = path
    for name, value in city.filled.items():
        address = address.replace(f"{{{name}}}", value)
    given = {"json": {}} if path.startswith("/api/") and method != "GET" else {}
    answer = client.request(method, address, **given)
    status, there = answer.status_code, answer.headers.get("location", "")
    role, allowed = STATES[state], EXPECTED[method, path]
    refused = status in (401, 403, 404) or (status == 303 and there.startswith("/login"))
    wrong = []
    if status >= 500:
        wrong.append(f"status {status}")
    elif role not in allowed and not refused:
        wrong.append(f"let in: {status} {there}")
    elif state in BASIC and role in allowed and (status in (401, 403) or there.startswith("/login")):
        wrong.append(f"kept out: {status} {there}")
    wrong += [f"leaks {word}" for word in HIDDEN[state] if word in answer.text and "openapi" not in path]
    return [f"{method} {path} for {state}: {line}" for line in wrong]
