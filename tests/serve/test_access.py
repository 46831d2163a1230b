"""Every route of a server of models for everybody: keys, tokens and sessions in every state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from heedful.collection.settings import CollectionConfig
from heedful.collection.store import Collection
from heedful.feedback import keys, people
from heedful.feedback.schema import ApiKey, Person
from serve.place import HOST, Place

CANARY = "canary-of-ada"
KEYS = {"key of bo", "key of admin"}
SESSIONS = {"session of bo", "session of admin"}
TOKENS = {"token of bo", "token of admin"}
NOBODY = {
    "nobody", "wrong key", "suspended key", "deleted key", "key of a deleted account", "ended session", "revoked token",
    "page of another site",
}  # fmt: skip
EVERYBODY = KEYS | SESSIONS | TOKENS | NOBODY
PEOPLE = SESSIONS | TOKENS
ADMINS = {"session of admin", "token of admin"}
CALLERS = KEYS | SESSIONS
BY_SECRET = {"POST /api/login", "POST /api/join", "POST /api/password"}
"""Routes whose access is a secret in the body."""
OPEN = {
    "GET /healthz", "GET /v1/openapi.json", "GET /login", "GET /join/{token}", "GET /password/{token}",
    "GET /static/{digest}/{name:path}", "POST /api/logout",
}  # fmt: skip
OF_ADMINS = {"POST /api/keys/invitations": ADMINS, "PUT /api/models/{name}": ADMINS,
             "GET /metrics": {"key of admin", "session of admin"}}  # fmt: skip


def allowed(route: str) -> set[str]:
    """Who may use a route: what they send may still be refused."""
    path = route.partition(" ")[2]
    if route in OPEN:
        return EVERYBODY
    if route in OF_ADMINS:
        return OF_ADMINS[route]
    return CALLERS if path.startswith("/v1/") else PEOPLE if path.startswith("/api/") else SESSIONS


class City(Place):
    """Ada owns an exchange with a thumb, a pick, a chat, a key and a token. Everybody else asks for them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, limits={"requests_a_minute": 0})
        collection = Collection(self.store, CollectionConfig())
        self.app.state.service.collector = collection
        now = datetime.now(UTC)
        with self.store.writing() as db:
            for key in keys.of_person(db, self.ids["ada"]):
                keys.agree(db.get_one(ApiKey, key.id), collection.terms()[0], now)
            keys.agree(keys.of_pages(db, self.ids["ada"], now), collection.terms()[0], now)
            for name in ("suspended", "deleted", "gone"):
                self.ids[name] = people.add_person(db, name, None, now).id
                key, self.secrets[name] = keys.new(db, self.ids[name], "test", now)
                if name == "suspended":
                    keys.suspend(db, key, now, by=self.ids["admin"], why="spam")
                if name == "deleted":
                    keys.delete(db, key, now, by=self.ids[name])
                if name == "gone":
                    db.get_one(Person, self.ids[name]).deleted = now
                    self.spare = str(key.id)
            self.tokens = {
                name: people.new_token(db, self.ids[name], "api", now, name="test")[1]
                for name in ("ada", "bo", "admin")
            }
            self.revoked = [people.new_token(db, self.ids["bo"], kind, now, days=1)[1] for kind in ("session", "api")]
            for secret in self.revoked:
                people.revoke(db, secret)
        self.filled = {"digest": "none", "name:path": "echo", "name": "echo", "token": "none", **self._objects()}

    def _objects(self) -> dict[str, str]:
        ada, page = self.client("ada"), self.browser("ada")
        said = {"model": "echo", "messages": [{"role": "user", "content": CANARY}]}
        exchange = ada.post("/v1/chat/completions", json=said).json()["id"]
        thumb = ada.post(f"/v1/exchanges/{exchange}/thumb", json={"up": True, "comment": CANARY}).json()["ref"]
        sides = {side: {"text": CANARY, "model": "m"} for side in ("left", "right")}
        ada.post("/v1/picks", json={"prompt": CANARY, **sides, "outcome": "tie", "blind": True})
        chat = page.post("/api/chats", json={"text": CANARY})
        assert chat.status_code in (200, 201), chat.text
        self.chat, self.thumb = chat.json()["ref"], thumb
        with self.store.reading() as db:
            key = str(keys.of_person(db, self.ids["ada"])[0].id)
        token = str(page.get("/api/me/tokens").json()[0]["id"])
        return {"ref": self.chat, "exchange_id": exchange, "key_id": key, "token_id": token, "turn": "1", "pair": "x"}

    def somebody(self, who: str) -> TestClient:
        client = TestClient(self.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False)
        kind, _, name = who.partition(" of ")
        bearer = {
            "wrong key": "heedful-wrong", "suspended key": self.secrets["suspended"],
            "deleted key": self.secrets["deleted"], "key of a deleted account": self.secrets["gone"],
            "revoked token": self.revoked[1],
        }.get(who)  # fmt: skip
        if bearer is None and kind in ("key", "token"):
            bearer = {"key": self.secrets, "token": self.tokens}[kind][name]
        if bearer is not None:
            client.headers["Authorization"] = f"Bearer {bearer}"
        if kind == "session":
            client = self.browser(name)
        if who == "ended session":
            client.cookies.set(self.app.state.cookie, self.revoked[0])
        if who == "page of another site":
            client = self.browser("admin")
            client.headers |= {"Origin": "http://elsewhere", "Sec-Fetch-Site": "cross-site"}
        return client

    def ask(self, who: str, route: str) -> tuple[int, str, str]:
        """Status, the place that it leads to, and text."""
        method, path = route.split(" ", 1)
        filled = self.filled | ({"ref": self.thumb} if "reactions" in path else {})
        if who in ADMINS:  # they may delete any key
            filled |= {"key_id": self.spare}
        for name, value in filled.items():
            path = path.replace(f"{{{name}}}", value)
        body: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": {}}
        answer = self.somebody(who).request(method, path, **body)
        return answer.status_code, answer.headers.get("location", ""), answer.text


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.store.close()


def routes_of(city: City) -> list[str]:
    found = {
        f"{method} {route.path}"
        for route in iter_route_contexts(city.app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    return sorted(found)


@pytest.mark.medium
@pytest.mark.parametrize("who", sorted(EVERYBODY))
def test_who_may_use_which_route(city: City, who: str) -> None:
    wrong = []
    for route in routes_of(city):
        status, there, text = city.ask(who, route)
        refused = status in (401, 403) or there.startswith("/login")
        if who == "page of another site":  # what a page reads of another site stays in the browser
            fits = refused or route.startswith("GET ")
        else:
            fits = route in BY_SECRET or refused == (who not in allowed(route))
        if status >= 500 or not fits:
            wrong.append(f"{route}: {status} {there}")
        if CANARY in text:
            wrong.append(f"{route}: shows what is of ada")
    assert wrong == []


@pytest.mark.medium
def test_nothing_of_ada_has_changed(city: City) -> None:
    """After everybody else has asked for it, with every method."""
    for who in sorted(EVERYBODY - NOBODY):
        for route in routes_of(city):
            if any(f"{{{name}}}" in route for name in ("ref", "exchange_id", "key_id", "token_id")):
                city.ask(who, route)
    ada, page = city.client("ada"), city.browser("ada")
    kept = {one["id"]: one for one in ada.get("/v1/exchanges").json()}[city.filled["exchange_id"]]
    assert (kept["prompt"][0]["content"], [one["kind"] for one in kept["reactions"]]) == (CANARY, ["thumb"])
    assert len(ada.get("/v1/picks").json()) == 1
    assert page.get(f"/api/chats/{city.chat}").status_code == 200
    assert [str(token["id"]) for token in page.get("/api/me/tokens").json()] == [city.filled["token_id"]]
