"""Keys: who makes, changes and sees them, what they count, and the server's own routes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heedful.configs.serve import ServeLimits
from heedful.feedback import keys
from heedful.serve.limits import Gate
from heedful.serve.types import ApiError, Caller
from serve.place import HOST, Place

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}


@pytest.mark.medium
def test_a_person_makes_suspends_and_deletes_a_key(place: Place) -> None:
    ada = place.browser("ada")
    page = ada.get("/keys").text
    assert "sexualises children" in page  # the policy
    assert "train the next model" in page  # what may be kept
    refused = ada.post("/api/keys", json={"name": "lab", "policy": False})
    assert refused.status_code == 400
    assert ada.post("/api/keys", json={"name": "lab", "policy": True, "consent": True}).status_code == 400  # unread
    made = ada.post("/api/keys", json={"name": "lab", "policy": True, "consent": True, "version": "1"}).json()
    program = place.client(None)
    program.headers["Authorization"] = f"Bearer {made['key']}"
    assert program.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert place.collector.kept[-1].key_id == made["id"]  # type: ignore[attr-defined]
    assert ada.patch(f"/api/keys/{made['id']}", json={"consent": False}).status_code == 204
    assert program.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert len(place.collector.kept) == 1  # type: ignore[attr-defined]
    assert ada.patch(f"/api/keys/{made['id']}", json={"suspended": True}).status_code == 204
    assert program.post("/v1/chat/completions", json=CHAT).status_code == 403  # at once
    assert ada.patch(f"/api/keys/{made['id']}", json={"suspended": False}).status_code == 204
    assert program.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert ada.delete(f"/api/keys/{made['id']}").status_code == 204
    assert program.post("/v1/chat/completions", json=CHAT).status_code == 401
    assert made["key"] not in ada.get("/keys").text


@pytest.mark.medium
def test_nobody_changes_the_key_of_another_but_an_administrator(place: Place) -> None:
    ada, bo, admin = (place.browser(name) for name in ("ada", "bo", "admin"))
    (key,) = ada.get("/api/keys").json()
    where = f"/api/keys/{key['id']}"
    assert bo.patch(where, json={"suspended": True}).status_code == 404
    assert bo.delete(where).status_code == 404
    assert ada.patch(where, json={"tokens_a_day": 10**9}).status_code == 403
    assert admin.patch(where, json={"consent": True, "version": "1"}).status_code == 403
    assert admin.patch(where, json={"suspended": True, "why": "too loud", "requests_a_minute": 5}).status_code == 204
    assert "too loud" in ada.get("/keys").text
    assert ada.patch(where, json={"suspended": False}).status_code == 403
    assert admin.patch(where, json={"suspended": False}).status_code == 204
    assert ada.get("/api/keys").json()[0]["requests_a_minute"] == 5
    assert "Everybody" in admin.get("/keys").text
    assert "Everybody" not in ada.get("/keys").text
    assert place.client(None).get("/keys").status_code == 303


@pytest.mark.medium
def test_an_invitation_makes_a_plain_account(place: Place) -> None:
    link = place.browser("admin").post("/api/keys/invitations", json={}).json()["link"]
    assert place.browser("ada").post("/api/keys/invitations", json={}).status_code == 403
    newcomer = place.client(None)
    newcomer.headers["Origin"] = HOST
    assert "ask the models" in newcomer.get(link).text
    body = {"token": link.rpartition("/")[2], "name": "cy", "password": "long enough for all"}
    assert newcomer.post("/api/join", json=body).json()["page"] == "/projects"
    assert newcomer.get("/projects").headers["location"] == "/"
    assert newcomer.get("/api/me").json()["admin"] is False
    assert newcomer.get("/keys").status_code == 200


def test_requests_a_minute(place: Place) -> None:
    gate = Gate(place.store, ServeLimits(requests_a_minute=60))
    caller = Caller(1, "ada", 1, None)
    for number in range(60):
        gate.enter(caller, now=100.0 + number / 1000)
    with pytest.raises(ApiError) as refused:
        gate.enter(caller, now=100.06)
    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
    assert refused.value.retry_after == pytest.approx(0.94)
    gate.enter(caller, now=101.06)
    gate.enter(Caller(1, "ada", 1, None, requests_a_minute=0), now=101.06)
    gate.enter(Caller(2, "bo", 2, None), now=101.06)


def test_tokens_a_day_survive_a_restart(place: Place) -> None:
    at = [datetime(2026, 3, 2, 23, 59, 30, tzinfo=UTC)]
    limits = ServeLimits(tokens_a_day=10)
    caller = Caller(place.ids["ada"], "ada", 1, None)
    first = Gate(place.store, limits, clock=lambda: at[0])
    first.enter(caller)
    first.spend(caller, 9)
    first.enter(caller)
    first.spend(caller, 1)
    first.save()
    again = Gate(place.store, limits, clock=lambda: at[0])
    with pytest.raises(ApiError) as refused:
        again.enter(caller)
    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (429, "insufficient_quota", 30.0)
    with place.store.reading() as db:
        assert keys.used(db, 1, at[0].date()) == (2, 10)
    at[0] += timedelta(minutes=1)
    again.enter(caller)


def test_the_limits_answer_in_openais_shape(tmp_path: Path) -> None:
    made = Place(tmp_path, limits={"requests_a_minute": 1})
    client = made.client()
    assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    refused = client.post("/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 55 <= int(refused.headers["retry-after"]) <= 60
    made.store.close()


def test_health_and_metrics(place: Place) -> None:
    client = place.client()
    client.post("/v1/chat/completions", json=CHAT)
    client.post("/v1/chat/completions", json=CHAT | {"model": "none"})
    health = place.client(None).get("/healthz")
    assert health.json() == {"status": "ok", "models": {"echo": "ok"}, "storing": "ok"}
    assert client.get("/metrics").status_code == 403
    shown = place.client("admin").get("/metrics").text
    assert 'heedful_requests_total{model="echo",status="200"} 1.0' in shown
    assert 'heedful_tokens_total{kind="completion",model="echo"} 3.0' in shown
    assert "ada" not in shown


def test_a_full_disk_stops_storing_and_no_answer(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(exchange: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place.collector, "keep", full)
    assert place.client().post("/v1/chat/completions", json=CHAT).status_code == 200
    health = place.client(None).get("/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["storing"].startswith("nothing is stored")
