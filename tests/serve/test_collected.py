"""What a server keeps of users, over HTTP: reactions, deletion, and nothing of those who refuse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heedful.collection.settings import CollectionConfig
from heedful.collection.store import Collection
from heedful.configs.serve import ServeLimits
from heedful.feedback import chats, keys
from heedful.feedback.schema import ApiKey
from heedful.serve.answering import Service
from heedful.serve.types import ApiError, Call, Reply
from serve.place import START, Echo, Place

CONFIG = CollectionConfig()
CANARY = "zanzibar-canary"
CHAT: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": f"Sing {CANARY}"}]}


class Down(Echo):
    """An upstream that does not answer."""

    async def respond(self, call: Call) -> Reply:
        raise ApiError(503, "The model is away.")


class Slow(Echo):
    """A model that is too slow for every request."""

    async def respond(self, call: Call) -> Reply:
        await asyncio.sleep(call.deadline - time.perf_counter())
        raise ApiError(504, "The answer took too long.")


class Cut(Echo):
    """An upstream that breaks off."""

    async def _pieces(self, call: Call, words: list[str]) -> Any:
        yield f"data: {words[0]}\n\n".encode()
        if call.outcome.answers is not None:
            call.outcome.answers.append(words[0])
        raise ConnectionResetError


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    models = {"echo": Echo(), "down": Down(), "slow": Slow(), "cut": Cut(), "drip": Echo(pause=0.05)}
    made = Place(tmp_path, models, limits=ServeLimits(seconds=0.3))
    service: Service = made.app.state.service
    service.collector = Collection(made.store, CONFIG)
    with made.store.writing() as db:
        for key in keys.of_person(db, made.ids["ada"]):
            keys.agree(db.get_one(ApiKey, key.id), CONFIG.version, START)
    yield made
    made.store.close()


def ask(place: Place, name: str = "ada", **changed: Any) -> Any:
    return place.client(name).post("/v1/chat/completions", json={**CHAT, **changed})


@pytest.mark.medium
def test_reactions_through_the_api(place: Place) -> None:
    ada, bo = place.client(), place.client("bo")
    name = ask(place, user="u7").json()["id"]
    made = ada.post(f"/v1/exchanges/{name}/thumb", json={"up": False, "reasons": ["wrong"]})
    assert (made.status_code, made.json()["repeated"]) == (200, False)
    edited = ada.post(f"/v1/exchanges/{name}/edit", json={"text": "Better."}).json()
    (kept,) = ada.get("/v1/exchanges").json()
    assert (kept["id"], kept["user"], kept["answers"]) == (name, "ada/u7", [f"Sing {CANARY}"])
    assert kept["reactions"] == [
        {"kind": "thumb", "up": False, "reasons": ["wrong"]}, {"kind": "edit", "text": "Better."}
    ]  # fmt: skip
    assert ada.delete(f"/v1/reactions/{edited['ref']}").status_code == 204
    assert [one["kind"] for one in ada.get("/v1/exchanges").json()[0]["reactions"]] == ["thumb"]
    for refused in (
        bo.post(f"/v1/exchanges/{name}/thumb", json={"up": True}),
        bo.delete(f"/v1/exchanges/{name}"),
        ada.post(f"/v1/exchanges/{name}/thumb", json={"up": True, "reasons": ["charm"]}),
    ):
        assert refused.status_code == 400, refused.text
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
    assert place.client(None).get("/v1/exchanges").status_code == 401


@pytest.mark.medium
def test_a_pick_needs_consent(place: Place) -> None:
    body = {
        "prompt": "Q?", "left": {"text": "A", "model": "m"}, "right": {"text": "B", "model": "n"},
        "outcome": "left", "blind": True,
    }  # fmt: skip
    refused = place.client("bo").post("/v1/picks", json=body)
    assert (refused.status_code, "nothing may be kept" in refused.text) == (400, True)
    assert place.client().post("/v1/picks", json=body, headers={"Heedful-Store": "no"}).status_code == 400
    for repeated in (False, True):
        made = place.client().post("/v1/picks", json={**body, "user": "u7", "key": "first"})
        assert (made.status_code, made.json()["repeated"]) == (200, repeated)
    (mine,) = place.client().get("/v1/picks").json()
    assert (mine["outcome"], mine["a"], mine["blind"]) == ("left", {"text": "A", "model": "m"}, True)


@pytest.mark.medium
def test_users_delete_what_is_kept(place: Place) -> None:
    ada = place.client()
    first, second = (ask(place).json()["id"] for _ in range(2))
    ada.post(f"/v1/exchanges/{first}/thumb", json={"up": True, "comment": CANARY})
    assert ada.delete(f"/v1/exchanges/{first}").json() == {
        "deleted_snapshots": [], "used": [], "cleared_files": [], "used_files": [],
    }  # fmt: skip
    assert [one["id"] for one in ada.get("/v1/exchanges").json()] == [second]
    assert CANARY in _all_bytes(place)
    assert ada.delete("/v1/exchanges").json()["exchanges"] == 1
    assert CANARY not in _all_bytes(place)


@pytest.mark.medium
def test_people_read_and_delete_on_a_page_what_is_kept_of_them(place: Place) -> None:
    exchange = ask(place, user="u7").json()["id"]
    place.client().post(
        f"/v1/exchanges/{exchange}/thumb", json={"up": False, "reasons": ["wrong"], "comment": "Off key."}
    )
    place.client().post(f"/v1/exchanges/{exchange}/edit", json={"text": "Sing in tune."})
    body = {"prompt": "Which one?", "outcome": "both_bad", "blind": True, "left": {"text": "A", "model": "m"}}
    ref = place.client().post("/v1/picks", json=body | {"right": {"text": "B", "model": "n"}}).json()["ref"]
    ada, bo = place.browser("ada"), place.browser("bo")
    page = ada.get("/kept").text
    reactions = ("thumb down (wrong facts)", "Off key.", "Sing in tune.")
    for told in (f"Sing {CANARY}", "ada/u7", *reactions, "Which one?", "both are bad", f"/v1/exchanges/{exchange}"):
        assert told in page
    assert "Nothing is kept of you" in bo.get("/kept").text
    with place.store.writing() as db:
        chats.create(db, place.ids["bo"], "Tea", {}, datetime.now(UTC))
    page = bo.get("/kept").text
    assert ("Nothing is collected of you" in page, "Delete everything" in page) == (True, True)
    assert bo.delete("/v1/exchanges").status_code == 200
    assert "Nothing is kept of you" in bo.get("/kept").text
    assert bo.delete(f"/v1/picks/{ref}").status_code == 400
    assert ada.delete(f"/v1/picks/{ref}").json()["used"] == []
    assert "Which one?" not in ada.get("/kept").text + _all_bytes(place)
    assert ada.delete(f"/v1/picks/{ref}").status_code == 400
    assert ada.delete(f"/v1/exchanges/{exchange}").status_code == 200
    assert "Nothing is kept of you" in ada.get(f"/kept?before={exchange}").text


@pytest.mark.medium
@pytest.mark.parametrize("refusal", ["no consent", "header", "store"])
def test_nothing_of_a_refused_request_is_anywhere(place: Place, refusal: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = place.client("bo" if refusal == "no consent" else "ada")
    client.headers.update({"Heedful-Store": "no"} if refusal == "header" else {})
    more = {"store": False} if refusal == "store" else {}
    seen = []
    for body in (
        {**CHAT, **more},
        {**CHAT, **more, "temperature": f"{CANARY}"},  # malformed
        {**CHAT, **more, "model": CANARY},
        {**CHAT, **more, "model": "down"},
        {**CHAT, **more, "model": "slow"},  # timed out
    ):
        seen.append(client.post("/v1/chat/completions", json=body).status_code)
    assert seen[0] == 200
    assert seen[2:] == [404, 503, 504]
    broken = f'{{"model": "echo", "messages": "{CANARY}'
    assert client.post("/v1/chat/completions", content=broken).status_code == 400
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, **more, "model": "drip", "stream": True}):
        pass  # the client leaves
    cut = {**CHAT, **more, "model": "cut", "stream": True}
    with contextlib.suppress(ConnectionResetError, RuntimeError):
        client.post("/v1/chat/completions", json=cut)
    metrics = place.client("admin").get("/metrics")
    assert CANARY not in _all_bytes(place)
    assert CANARY not in caplog.text + metrics.text
    place.client().post("/v1/chat/completions", json=CHAT)  # the same words with consent are found
    assert CANARY in _all_bytes(place)


def _all_bytes(place: Place) -> str:
    """Every file of the folder: the database, its log, whatever else."""
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert any(path.name == "heedful.db" for path in files)
    return "".join(path.read_bytes().decode("latin-1") for path in files)
