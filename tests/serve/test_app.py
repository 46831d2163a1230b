"""The server around the models: who may ask, what is refused and how, and what the collector gets."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from heedful.feedback import keys
from heedful.feedback.schema import ApiKey
from serve.place import START, Keeps, Place

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "a canary sings"}]}


def error_of(response: Any) -> tuple[int, str, str | None]:
    found = response.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return response.status_code, found["type"], found["code"]


def test_a_key_is_needed(place: Place) -> None:
    nobody = place.client(None)
    assert error_of(nobody.post("/v1/chat/completions", json=CHAT)) == (401, "authentication_error", "invalid_api_key")
    assert error_of(nobody.get("/v1/models"))[0] == 401
    nobody.headers["Authorization"] = "Basic heedful"
    assert error_of(nobody.post("/v1/chat/completions", json=CHAT))[::2] == (401, "invalid_api_key")
    nobody.headers["Authorization"] = "Bearer heedful-wrong"
    assert error_of(nobody.post("/v1/chat/completions", content=b"{"))[0] == 401  # before the body is read
    assert place.client().get("/v1/models").json()["data"][0]["id"] == "echo"


def test_a_page_asks_with_its_session_and_no_other_site_does(place: Place) -> None:
    browser = place.browser("bo")
    answer = browser.post("/v1/chat/completions", json=CHAT).json()
    assert answer["choices"][0]["message"]["content"] == "a canary sings"
    with place.store.reading() as db:
        key = keys.find_of_pages(db, place.ids["bo"])
    assert key is not None
    assert key.secret_hash is None
    browser.headers["Origin"] = "http://elsewhere"
    assert error_of(browser.post("/v1/chat/completions", json=CHAT))[:2] == (403, "permission_error")


@pytest.mark.medium
def test_a_suspended_key_is_refused_and_a_deleted_one_unknown(place: Place) -> None:
    client = place.client("bo")
    with place.store.writing() as db:
        (key,) = keys.of_person(db, place.ids["bo"])
        keys.suspend(db, key, START, by=place.ids["admin"], why="spam")
    refused = client.get("/v1/models")
    assert error_of(refused) == (403, "permission_error", "key_suspended")
    assert "spam" in refused.json()["error"]["message"]
    with place.store.writing() as db:
        keys.resume(db, db.get_one(ApiKey, key.id), START, by=place.ids["admin"])
    assert client.get("/v1/models").status_code == 200
    with place.store.writing() as db:
        keys.delete(db, db.get_one(ApiKey, key.id), START, by=place.ids["bo"])
    place.app.state.callers.forget()
    assert error_of(client.get("/v1/models"))[0] == 401


@pytest.mark.medium
def test_refusals_have_openais_shape(place: Place) -> None:
    client = place.client()
    for content in (b"{", b"[1]", b'{"model": "\xff"}', b'{"model": "\\ud800"}', b'{"x": NaN}', b"[" * 100_000):
        assert error_of(client.post("/v1/chat/completions", content=content))[:2] == (400, "invalid_request_error")
    assert error_of(client.post("/v1/chat/completions", json={**CHAT, "model": "x"}))[::2] == (404, "model_not_found")
    assert error_of(client.post("/v1/chat/completions", json={"messages": []}))[0] == 400
    broken = client.post("/v1/chat/completions", content=b'{"model": "x",\n "a"}').json()["error"]["message"]
    assert broken == "The body is not JSON: Expecting ':' delimiter (line 2, column 5)."
    nothing = client.get("/v1/nothing")
    assert error_of(nothing)[0] == 404
    assert nothing.json()["error"]["message"].startswith("There is no GET /v1/nothing here. GET /v1/openapi.json")
    without_v1 = client.post("/chat/completions", json=CHAT)
    assert error_of(without_v1) == (404, "invalid_request_error", "not_found")
    assert "base_url ends with /v1" in without_v1.json()["error"]["message"]
    long = client.post("/v1/chat/completions", json={**CHAT, "user": "u" * 201})
    assert (long.status_code, long.json()["error"]["message"]) == (400, "'user' may have 200 characters.")
    assert error_of(client.get("/v1/chat/completions"))[0] == 405
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 2_100_000}]}
    assert error_of(client.post("/v1/chat/completions", json=large))[::2] == (413, "request_too_large")


def test_the_collector_gets_what_may_be_kept(place: Place) -> None:
    ada, bo = place.client(), place.client("bo")
    whole = ada.post("/v1/chat/completions", json={**CHAT, "user": "u7", "temperature": 0.5}).json()
    with ada.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as streamed:
        assert b"".join(streamed.iter_bytes()).endswith(b"data: [DONE]\n\n")
    for client, body, header in (
        (bo, CHAT, {}),
        (ada, {**CHAT, "store": False}, {}),
        (ada, CHAT, {"Heedful-Store": "no"}),
    ):
        assert client.post("/v1/chat/completions", json=body, headers=header).status_code == 200
    first, second = place.collector.kept  # type: ignore[attr-defined]
    assert (first.id, first.user, first.consent, first.model) == (whole["id"], "ada/u7", "1", "echo")
    assert whole["id"].startswith("chatcmpl-")
    assert (first.messages, first.prompt) == (CHAT["messages"], None)
    assert (first.answers, first.finish, first.settings) == (["a canary sings"], ["stop"], {"temperature": 0.5})
    assert (second.user, second.answers) == ("ada", ["a canary sings"])


@pytest.mark.medium
def test_the_server_needs_no_torch() -> None:
    script = "import sys, heedful.serve.app; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.medium
def test_the_page_of_the_account_leads_to_what_is_there(place: Place) -> None:
    browser = place.browser()
    page = browser.get("/account").text
    found = set(re.findall(r'<a href="(/[^"]*)"', page))
    assert found >= {"/", "/keys"}
    assert {path: browser.get(path).status_code for path in sorted(found)} == dict.fromkeys(sorted(found), 200)


def test_the_server_deletes_what_is_too_old_at_its_start(tmp_path: Path) -> None:
    swept = threading.Event()

    class Sweeps(Keeps):
        def sweep(self) -> None:
            swept.set()
            raise OSError("the disk is away")  # the server goes on

    with Place(tmp_path, collector=Sweeps()).client() as client:
        assert swept.wait(60)
        assert client.get("/healthz").json()["status"] == "ok"
