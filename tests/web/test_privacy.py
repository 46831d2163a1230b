"""What is left of people and of redacted texts, and what labelers are not told."""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.feedback import events, people
from heedful.feedback.store import Store
from heedful.files import write_json
from heedful.web import uploads

from .site import START, Site, jsonl, rank

CANARY = "canary-7f3a"
TEA = "/api/projects/tea"


def holding(folder: Path, word: str = CANARY) -> list[str]:
    """Files of the folder that contain the word, in UTF-8 or as JSON escapes."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and any(form in path.read_bytes() for form in (word.encode(), json.dumps(word)[1:-1].encode()))
    )


def submit(client: TestClient, task: dict[str, Any], answer: dict[str, Any]) -> None:
    body = {"answer": answer, "idempotency_key": secrets.token_hex(8)}
    assert client.post(f"{TEA}/tasks/{task['lease']}/submit", json=body).status_code == 200


def next_task(client: TestClient, kind: str = "ranking") -> dict[str, Any]:
    task: dict[str, Any] = client.post(f"{TEA}/next?kind={kind}").json()["task"]
    return task


def is_fine(answer: httpx.Response) -> None:
    """What was not taken cannot be deleted."""
    assert answer.status_code < 400, f"{answer.request.url}: {answer.read().decode()}"


def work_of(site: Site, word: str = CANARY) -> TestClient:
    """Somebody who leaves the word wherever a person can leave a word."""
    site.add_prompts(4)
    site.add_rankings(3)
    lead = site.browser("lead")
    invited = lead.post(f"{TEA}/invitations", json={"notes": [f"for {word}"], "group": f"group {word}"})
    script = TestClient(site.app, base_url="http://testserver")
    given = {"name": f"Zoe {word}", "password": "a long password"}
    joined = script.post(
        "/api/join", json=given, headers={"Authorization": f"Bearer {invited.json()['invitations'][0]['token']}"}
    )  # fmt: skip
    zoe = TestClient(
        site.app, base_url="http://testserver", headers={"Authorization": f"Bearer {joined.json()['token']}"}
    )
    zoe.event_hooks = {"response": [is_fine]}
    with site.store.reading() as db:
        found = people.person_named(db, f"Zoe {word}")
        assert found is not None
        site.ids["zoe"] = found.id
    zoe.post(f"{TEA}/consent", json={"version": 1})
    zoe.put(f"{TEA}/topics", json={"topics": [f"topic {word}"]})
    zoe.post("/api/me/tokens", json={"name": f"token {word}"})
    for number in range(2):
        task = next_task(zoe, "demonstration")
        zoe.put(f"{TEA}/tasks/{task['lease']}/draft", json={"draft": {"text": f"{word} draft {number}"}})
        submit(zoe, task, {"completion": f"{word} wrote this. " * 200, "note": word})
    zoe.post(f"{TEA}/undo", json={})
    ranking = next_task(zoe)
    answer = {"ranking": [[0], [1], [2]], "ratings": [{"overall": 3}] * 3, "note": word}
    body = {"answer": answer, "idempotency_key": f"key {word}"[:8] + secrets.token_hex(8)}
    zoe.post(f"{TEA}/tasks/{ranking['lease']}/submit", json=body)
    marked = next_task(zoe)
    zoe.post(f"{TEA}/tasks/{marked['lease']}/personal-data", json={"note": word})
    skipped = {"reason": "other", "note": word, "idempotency_key": "skip one two"}
    zoe.post(f"{TEA}/tasks/{marked['lease']}/skip", json=skipped)
    zoe.put(f"{TEA}/tasks/{next_task(zoe, 'demonstration')['lease']}/draft", json={"draft": word})
    paused = {"paused": True, "why": f"asked for a break, {word}"}
    is_fine(lead.patch(f"{TEA}/people/{site.ids['zoe']}", json=paused))
    return lead


@pytest.mark.medium
@pytest.mark.parametrize("snapshot", [False, True])
def test_nothing_is_left_of_a_deleted_person_but_the_snapshots_that_are_named(site: Site, snapshot: bool) -> None:
    lead = work_of(site)
    if snapshot:
        filters = {"records": "demonstration", "labelers": [f"Zoe {CANARY}"]}
        made = lead.post(f"{TEA}/snapshots", json={"name": "march", "filters": filters}).json()
        assert lead.get(f"{TEA}/snapshots/{made['id']}/pairs.jsonl").status_code == 200
    (site.folder / ".uploads").mkdir(exist_ok=True)
    (site.folder / ".uploads" / "pairs-0.jsonl").write_text(CANARY)  # of an earlier version
    assert "heedful.db-wal" in holding(site.folder)
    confirmed = {"name": f"Zoe {CANARY}"}
    deleted = lead.request("DELETE", f"{TEA}/people/{site.ids['zoe']}", json=confirmed)
    assert deleted.status_code == 200
    kept = [Path(path).relative_to(site.folder).as_posix() for path in deleted.json()["snapshots"]]
    assert kept == (["snapshots/tea/march"] if snapshot else [])
    assert [name for name in holding(site.folder) if not name.startswith("snapshots/tea/march/")] == []
    with site.store.reading() as db:
        assert events.verify_all(db)["tea"] > 0


@pytest.mark.medium
def test_a_reader_at_the_same_time_delays_the_cleaning_and_does_not_stop_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add_prompts(1)
    monkeypatch.setattr("heedful.feedback.store.SCRUB_SECONDS", 0.1)
    with site.store.reading() as db:
        people.has_admin(db)
        with site.store.writing() as other:
            people.audit(other, None, "x", "y", now=site.now)
        began = time.monotonic()
        assert not site.store.scrub()
        assert time.monotonic() - began < 20  # nobody can write while SQLite itself waits for a reader, 30 seconds
    assert site.store.scrub()
    with site.store.reading() as db:
        assert db.execute(sa.text("pragma busy_timeout")).scalar() == 30_000
    assert (site.folder / "heedful.db-wal").stat().st_size == 0


@pytest.mark.medium
def test_redacted_texts_leave_the_files_of_sampling(site: Site) -> None:
    rows = [{"prompt": f"{CANARY} asks."}, {"prompt": "Another asks."}]
    assert site.browser("lead").post(f"{TEA}/items", content=jsonl(rows)).json()["items"] == 2
    for number, finished in ((1, True), (2, False)):
        place = site.folder / "samples" / "tea" / str(number)
        formats.write(place / "prompts.jsonl", [Prompt.model_validate(row) for row in rows])
        answered = [Completions.model_validate(row | {"completions": ["a", "b"]}) for row in rows]
        if finished:
            formats.write(place / "completions.jsonl", answered)
            formats.write(place / "part-1.jsonl", answered)
            results = {"prompts_left_out": 1, "left_out": {"prompt 1": f"status 400, cannot answer '{CANARY} asks.'"}}
            write_json(place / "part-1.jsonl.manifest.json", {"results": results})
        else:
            (place / ".part-1.jsonl.partial").write_text(json.dumps(rows[0]))
            (place / "part-1.log").write_text(f"prompt 1 is left out: status 400, cannot answer '{CANARY} asks.'")
            (place / "part-1.ended").write_text("2")
            (place / "cache" / "answers" / "ab").mkdir(parents=True)
            (place / "cache" / "answers" / "ab" / "abcd.json").write_text(json.dumps({"text": f"{CANARY} says so."}))
        write_json(place / "job.json", {"models": {}, "k": 2, "prompts": 2, "started": site.now.isoformat()})
    (site.folder / ".uploads").mkdir(exist_ok=True)
    assert len(holding(site.folder / "samples")) == 8
    lead = site.browser("lead")
    ref = next(one["ref"] for one in lead.get(f"{TEA}/items").json() if CANARY in one["payload"]["prompt"])
    assert lead.post(f"{TEA}/items/{ref}/redact", json={"why": "a name"}).status_code == 204
    assert holding(site.folder) == []
    kept = formats.read(site.folder / "samples/tea/1/completions.jsonl", Completions)
    assert [row.prompt for row in kept] == ["Another asks."]
    told = json.loads((site.folder / "samples/tea/1/part-1.jsonl.manifest.json").read_text())
    assert told == {"results": {"prompts_left_out": 1}}
    assert json.loads((site.folder / "samples/tea/2/job.json").read_text())["prompts"] == 1


def test_uploads_in_use_survive_the_cleaning(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "rows").touch()
    (tmp_path / "pairs-1.jsonl").touch()
    with uploads.place(tmp_path) as place:
        (place / "rows.jsonl").write_text("x")
        uploads.clean(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [place.name]
        assert (place / "rows.jsonl").read_text() == "x"
        assert stat.S_IMODE(place.stat().st_mode) == 0o700 or os.name == "nt"
    assert list(tmp_path.iterdir()) == []
    uploads.clean(tmp_path / "nowhere")


@pytest.mark.medium
def test_imports_while_people_are_deleted(site: Site) -> None:
    lead, stop = site.script("lead"), threading.Event()

    def clean() -> None:
        while not stop.is_set():
            uploads.clean(site.folder / ".uploads")

    thread = threading.Thread(target=clean)
    thread.start()
    try:
        for number in range(30):
            found = lead.post(f"{TEA}/items", content=jsonl([{"prompt": f"Number {number}?"}]))
            assert (found.status_code, found.json().get("items")) == (200, 1)
    finally:
        stop.set()
        thread.join()


# What labelers are not told


@pytest.mark.medium
def test_who_judged_an_item_does_not_get_its_gold_copy(site: Site) -> None:
    (ref,) = site.add_rankings(1, wanted=1)
    labeler, lead = site.browser("labeler"), site.browser("lead")
    rank(labeler)
    gold = {"answer": "1 > 2 > 3"}
    assert lead.post(f"{TEA}/items/{ref}/gold", json=gold).status_code == 201
    site.settle(gold_share=1.0)
    assert labeler.post(f"{TEA}/next").json()["task"] is None
    assert lead.post(f"{TEA}/next").json()["task"] is not None  # who has not seen it


@pytest.mark.medium
def test_who_had_the_gold_copy_does_not_get_its_item(site: Site) -> None:
    refs = site.add_rankings(2, wanted=2)
    labeler, lead = site.browser("labeler"), site.browser("lead")
    assert lead.post(f"{TEA}/items/{refs[0]}/gold", json={"answer": "1 > 2 > 3"}).status_code == 201
    site.settle(gold_share=1.0)
    copy = rank(labeler)
    site.settle(gold_share=0.0)
    assert copy["event"]
    assert next_task(labeler)["ref"] == refs[1]
    rank(labeler)
    assert labeler.post(f"{TEA}/next").json()["task"] is None
    others = [next_task(lead)["ref"]]  # who has not had the copy
    rank(lead)
    others.append(next_task(lead)["ref"])
    assert set(others) == set(refs)


@pytest.mark.medium
def test_only_leads_see_in_the_log_how_work_is_checked(site: Site) -> None:
    lead, reader = site.browser("lead"), site.browser("reader")
    given = {"gold_share": 0.125, "attention_share": 0.25, "alerts": {"gold": 0.375}, "copies": 3}
    assert lead.patch(TEA, json={"settings": given}).status_code == 200
    for client, hidden in ((lead, False), (reader, True)):
        told = client.get(f"{TEA}/audit").json()[0]["detail"]
        assert told["copies"] == 3
        assert set(told) == ({"copies"} if hidden else set(given))
        page = client.get("/lead/tea/log").text
        assert "copies: 3" in page
        assert [value in page for value in ("0.125", "0.25", "0.375")] == [not hidden] * 3


@pytest.mark.medium
def test_only_leads_see_how_work_is_checked(site: Site) -> None:
    secret = {"gold_share", "attention_share", "screening", "alerts"}
    for name, told in (("lead", True), ("admin", True), ("labeler", False), ("held_out", False), ("reader", False)):
        client = site.browser(name)
        (listed,) = [one for one in client.get("/api/projects").json() if one["name"] == "tea"]
        for project in (client.get(TEA).json(), listed):
            assert (secret <= project["settings"].keys(), bool(secret & project["settings"].keys())) == (told, told)
            assert "lease_minutes" in project["settings"]


def test_the_database_is_for_one_account_of_the_machine(tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows has other rights")
    old = os.umask(0o022)
    try:
        store = Store.open(tmp_path / "new.db")
        with store.writing() as db:
            people.audit(db, None, "x", "y", now=START)
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
            "new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600,
        }  # fmt: skip
        store.close()
        (tmp_path / "new.db").chmod(0o644)
        Store.open(tmp_path / "new.db").close()
        assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600
    finally:
        os.umask(old)
