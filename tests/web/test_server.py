"""The server as real teams run it: behind proxies, next to others, with a database that is away."""

from __future__ import annotations

import errno
import gzip
import re
import sqlite3
import threading
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from heedful.config import UserError
from heedful.feedback import derive, store
from heedful.feedback.store import Store
from heedful.web import imports
from heedful.web.app import create_app
from heedful.web.settings import WebSettings, checked_address

from .site import HOST, Site, jsonl, rank

ROOT = "/label"
PAGES = [
    "/projects", "/account", "/api/docs", "/lead/tea", "/lead/tea/people", "/lead/tea/items", "/lead/tea/import",
    "/lead/tea/quality", "/lead/tea/snapshots", "/lead/tea/sampling", "/lead/tea/instructions", "/lead/tea/settings",
    "/lead/tea/rounds",
    "/lead/tea/settings/rubric", "/lead/tea/log", "/work/tea/ranking", "/work/tea/history", "/work/tea/guide",
    "/work/tea/consent", "/work/tea/progress", "/work/tea/topics",
]  # fmt: skip
ADDRESS = re.compile(r'(?:href|src|action|formaction|data-then|data-api|data-work|data-root)="(/[^"]*)"')


@pytest.fixture
def below(site: Site) -> Site:
    """A server that a proxy serves at /label, on the same store."""
    site.settings = WebSettings(base_url=f"{HOST}{ROOT}", folder=site.folder)
    site.app = create_app(site.store, site.settings)
    site.app.state.clock = lambda: site.now
    return site


@pytest.mark.medium
@pytest.mark.parametrize("passed_on", ["whole", "taken off"])
def test_every_address_is_below_the_path_of_the_proxy(below: Site, passed_on: str) -> None:
    below.add_rankings(2)
    front = ROOT if passed_on == "whole" else ""
    client, seen = below.browser("lead"), set()
    for page in PAGES:
        found = client.get(f"{front}{page}")
        assert found.status_code == 200, page
        seen |= {unescape(address) for address in ADDRESS.findall(found.text)}
    assert len(seen) > 50
    assert [address for address in seen if not f"{address}/".startswith(f"{ROOT}/")] == []
    for address in seen:
        if "/static/" in address:
            assert client.get(front + address.removeprefix(ROOT)).status_code == 200, address
    part = client.post(f"{front}/api/projects/tea/next", headers={"Accept": "text/html"}).text
    assert all(address.startswith(f"{ROOT}/") for address in ADDRESS.findall(part))


@pytest.mark.medium
def test_redirects_and_cookies_are_below_the_path_of_the_proxy(below: Site) -> None:
    stranger, labeler = below.browser(), below.browser("labeler")
    assert stranger.get(f"{ROOT}/lead/tea").headers["location"] == f"{ROOT}/login?next=/label/lead/tea"
    assert 'data-then="/label/lead/tea"' in stranger.get(f"{ROOT}/login?next=/label/lead/tea").text
    assert 'data-then="/label/"' in stranger.get(f"{ROOT}/login?next=/elsewhere").text
    assert labeler.get(ROOT).headers["location"] == f"{ROOT}/work/tea"
    assert labeler.get(f"{ROOT}/").headers["location"] == f"{ROOT}/work/tea"
    assert labeler.get("/work/tea").headers["location"] == f"{ROOT}/work/tea/demonstration"
    assert labeler.get(f"{ROOT}/login").headers["location"] == f"{ROOT}/"
    invited = below.browser("lead").post(f"{ROOT}/api/projects/tea/invitations", json={}).json()["invitations"][0]
    assert invited["link"] == f"{HOST}{ROOT}/join/{invited['token']}"
    page = stranger.get(invited["link"]).text
    assert "/label/login?next=/label/join/" in page
    joined = stranger.post(
        f"{ROOT}/api/join", json={"token": invited["token"], "name": "Zoe", "password": "a long password"}
    )
    assert joined.json()["page"] == f"{ROOT}/work/tea"
    cookies = joined.headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("Path=/label;" in cookie for cookie in cookies)
    assert "Path=/label" in stranger.post(f"{ROOT}/api/logout").headers["set-cookie"]


@pytest.mark.medium
def test_a_slash_at_the_end_is_no_other_page(site: Site) -> None:
    assert site.browser("lead").get("/lead/tea/people/").status_code == 200


@pytest.mark.parametrize("path", ["/api", "/work", "/static/x", "/lead"])
def test_a_path_of_our_own_is_refused(site: Site, path: str) -> None:
    with pytest.raises(UserError, match="heedful has pages at /"):
        create_app(site.store, WebSettings(base_url=f"https://example.org{path}"))


@pytest.mark.parametrize(
    "address", ["foo", "https://", "ftp://x", "https://x/?a", "https://x/a b", "https://u:p@x/", "https://x/#a"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="not the address of a server"):
        checked_address(address)
    assert checked_address(" https://label.example.org/a/b/ ") == "https://label.example.org/a/b"


@pytest.mark.medium
def test_two_servers_on_one_host_do_not_sign_each_others_people_out(tmp_path: Path) -> None:
    one, other = Store.open(tmp_path / "one.db"), Store.open(tmp_path / "other.db")
    here = WebSettings(base_url="http://localhost:8000")
    named = {
        create_app(store, settings).state.cookie
        for store, settings in (
            (one, here), (other, here), (one, WebSettings(base_url="http://localhost:8001")),
            (one, WebSettings(base_url="http://localhost:8000/b")),
        )
    }  # fmt: skip
    assert len(named) == 4
    assert create_app(one, here).state.cookie in named  # the same after a restart
    one.close()
    other.close()


# Errors


def test_a_write_of_another_site_is_refused_as_json(site: Site) -> None:
    client = site.browser("lead")
    found = client.post("/api/projects/tea/next", headers={"Origin": "https://evil.example"})
    assert (found.status_code, list(found.json())) == (403, ["error"])
    assert "--url" in found.json()["error"]


@pytest.mark.medium
def test_too_much_is_refused_as_json(site: Site) -> None:
    client = site.browser("lead")
    for sent in (b"x" * 2_000_001, (b"x" * 1000 for _ in range(2001))):
        found = client.post("/api/login", content=sent)
        assert (found.status_code, list(found.json())) == (413, ["error"])
        assert "2 MB" in found.json()["error"]


def quiet_errors(site: Site, name: str = "labeler") -> TestClient:
    client = site.browser(name)
    calm = TestClient(
        site.app, base_url=HOST, headers={"Origin": HOST}, follow_redirects=False, raise_server_exceptions=False
    )
    calm.cookies = client.cookies
    return calm


def reopened(site: Site) -> Store:
    """The site on connections of its own, made with the settings of this moment."""
    site.app.state.store = Store(store._engine(site.store.engine.url))
    found: Store = site.app.state.store
    return found


@pytest.mark.medium
def test_a_locked_database_is_503_with_one_line_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.add_rankings(1)
    client = site.browser("labeler")
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.01)
    again = reopened(site)
    with closing(sqlite3.connect(site.folder / "heedful.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        for _ in range(3):
            found = client.post("/api/projects/tea/next")
            assert (found.status_code, found.headers["retry-after"]) == (503, "5")
            assert "does not answer" in found.json()["error"]
        page = client.get("/work/tea/ranking")
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert "Not available right now" in page.text
        assert client.get("/work/tea/guide").status_code == 200  # readers go on
    lines = [record.getMessage() for record in caplog.records if record.name == "heedful.web"]
    assert lines == ["Requests are refused with 503: database is locked. The line is not repeated while this goes on."]
    assert client.post("/api/projects/tea/next").json()["task"] is not None
    again.close()


@pytest.mark.medium
def test_a_writer_that_never_ends_does_not_hold_the_others_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    client, inside, go = site.browser("labeler"), threading.Event(), threading.Event()

    def writer() -> None:
        with site.store.writing():
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=writer)
    thread.start()
    inside.wait(10)
    assert client.post("/api/projects/tea/next").status_code == 503
    go.set()
    thread.join()
    assert client.post("/api/projects/tea/next").status_code == 200


@pytest.mark.medium
def test_a_full_disk_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(imports, "read", full)
    found = site.browser("lead").post("/api/projects/tea/items", content=jsonl([{"prompt": "x"}]))
    assert (found.status_code, found.headers["retry-after"]) == (503, "5")
    assert "disk is full" in found.json()["error"]
    client = site.browser("lead")
    with site.store.writing() as db:
        pages = db.connection().exec_driver_sql("pragma page_count").scalar_one()
    monkeypatch.setattr(store, "PRAGMAS", (*store.PRAGMAS, f"max_page_count = {pages}"))
    again = reopened(site)
    found = client.post("/api/projects/tea/instructions/guide", json={"text": "x" * 100_000})
    assert (found.status_code, "disk is full" in found.json()["error"]) == (503, True)
    again.close()


@pytest.mark.medium
def test_a_damaged_database_is_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.add_rankings(1)
    client = site.browser("labeler")
    with site.store.writing() as db:
        db.connection().exec_driver_sql("select 1")
    site.store.scrub()
    site.store.close()
    path = site.folder / "heedful.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))
    for _ in range(2):
        found = client.post("/api/projects/tea/next")
        assert (found.status_code, found.headers["retry-after"], list(found.json())) == (503, "5", ["error"])
        assert "damaged" in found.json()["error"]
    page = client.get("/work/tea/ranking")
    assert (page.status_code, "is damaged" in page.text) == (503, True)
    lines = [record.getMessage() for record in caplog.records if record.name == "heedful.web"]
    assert len(lines) == 1
    assert "malformed" in lines[0]


@pytest.mark.medium
def test_a_mistake_of_ours_is_json_on_the_api_and_words_on_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret of the code")

    client = quiet_errors(site)
    monkeypatch.setattr("heedful.web.api.work.work.history", broken)
    monkeypatch.setattr("heedful.web.pages.labeler.work.history", broken)
    found = client.get("/api/projects/tea/history")
    assert (found.status_code, found.headers["content-type"]) == (500, "application/json")
    assert "log has the details" in found.json()["error"]
    assert found.headers["x-content-type-options"] == "nosniff"
    page = client.get("/work/tea/history")
    assert (page.status_code, "An error in heedful" in page.text) == (500, True)
    assert "secret" not in page.text + found.text


@pytest.mark.medium
def test_a_wrong_statement_is_our_mistake(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(db: Any, *_: Any, **__: Any) -> None:
        db.connection().exec_driver_sql("select from where")

    client = quiet_errors(site)
    monkeypatch.setattr("heedful.web.api.work.work.history", wrong)
    assert client.get("/api/projects/tea/history").status_code == 500


@pytest.mark.medium
def test_a_change_of_nothing_changes_nothing(site: Site) -> None:
    (ref,) = site.add_rankings(1)
    lead = site.browser("lead")
    before = lead.get(f"/api/projects/tea/items/{ref}").json()
    found = lead.patch(f"/api/projects/tea/items/{ref}", json={})
    assert (found.status_code, found.json()) == (200, before)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nowhere", 404), ("PUT", "/api/login", 405), ("POST", "/api/login", 422),
        ("GET", "/api/projects/tea/items?limit=0", 422), ("GET", "/api/me", 401),
    ],
)  # fmt: skip
def test_errors_of_the_api_are_json(site: Site, method: str, path: str, status: int) -> None:
    client = site.browser(None if status == 401 else "lead")
    found = client.request(method, path, json={})
    assert (found.status_code, list(found.json())) == (status, ["error"])


# What labelers are told


@pytest.mark.medium
def test_a_judgement_names_the_guide_under_which_its_task_was_given(site: Site) -> None:
    (ref, other) = site.add_rankings(2)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    task = labeler.post("/api/projects/tea/next").json()["task"]
    assert task["instructions"] == 1
    lead.post("/api/projects/tea/instructions/guide", json={"text": "Another guide."})
    answer = {"ranking": [[0], [1], [2]], "ratings": [{"overall": 4}] * 3}
    body = {"answer": answer, "idempotency_key": "one two three"}
    assert labeler.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body).status_code == 200
    assert lead.get(f"/api/projects/tea/items/{task['ref']}").json()["events"][0]["instructions"] == 1
    after = labeler.post("/api/projects/tea/next", headers={"Accept": "text/html"}).text
    assert 'data-guide="2"' in after
    rank(labeler)
    last = ref if task["ref"] == other else other
    assert lead.get(f"/api/projects/tea/items/{last}").json()["events"][0]["instructions"] == 2
    assert labeler.post("/api/projects/tea/undo", json={}).json()["instructions"] == 2


@pytest.mark.medium
def test_a_new_consent_text_comes_before_the_next_task(site: Site) -> None:
    site.add_rankings(3)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    task = labeler.post("/api/projects/tea/next").json()["task"]
    lead.post("/api/projects/tea/instructions/consent", json={"text": "Other terms."})
    answer = {"ranking": [[0], [1], [2]], "ratings": [{"overall": 4}] * 3}
    body = {"answer": answer, "idempotency_key": "one two three"}
    done = labeler.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body, headers={"Accept": "text/html"})
    assert "data-disagreed" in done.text
    assert labeler.post("/api/projects/tea/next").json()["why"] == "consent"
    assert labeler.get("/work/tea/ranking").headers["location"] == "/work/tea/consent?kind=ranking"
    undone = labeler.post("/api/projects/tea/undo", json={})
    assert (undone.status_code, undone.json()["code"]) == (403, "consent")
    assert labeler.post("/api/projects/tea/consent", json={"version": 2}).status_code == 204
    assert labeler.post("/api/projects/tea/next").json()["task"] is not None
    again = labeler.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body, headers={"Accept": "text/html"})
    assert "data-disagreed" not in again.text


@pytest.mark.medium
def test_raised_overlap_opens_done_and_begun_items_again(site: Site) -> None:
    refs = site.add_rankings(5)
    labeler, lead = site.browser("labeler"), site.browser("lead")
    for _ in range(2):
        rank(labeler)
    asked = next(ref for ref in refs if item(lead, ref)["taken"] == 0)
    lead.patch(f"/api/projects/tea/items/{asked}", json={"wanted": 1})
    lead.patch("/api/projects/tea", json={"settings": {"double_share": 1.0, "copies": 2}})
    assert {(each["wanted"], each["open"]) for each in (item(lead, ref) for ref in refs)} == {(2, True)}
    with site.store.writing() as db:
        assert derive.rebuild(db, site.project_id) == 0
    for _ in range(3):  # who judged an item does not get it again
        rank(labeler)
    assert labeler.post("/api/projects/tea/next").json()["task"] is None
    lead.patch("/api/projects/tea", json={"settings": {"copies": 3}})
    assert {(each["wanted"], each["taken"], each["open"]) for each in (item(lead, ref) for ref in refs)} == {
        (3, 1, True)
    }
    lead.patch("/api/projects/tea", json={"settings": {"double_share": 0}})
    assert {(each["wanted"], each["open"]) for each in (item(lead, ref) for ref in refs)} == {(1, False)}


def item(lead: TestClient, ref: str) -> dict[str, Any]:
    found: dict[str, Any] = lead.get(f"/api/projects/tea/items/{ref}").json()["item"]
    return found


@pytest.mark.medium
@pytest.mark.parametrize("address", ["items", "items/preview"])
def test_an_import_takes_kind_and_file(site: Site, address: str) -> None:
    client = site.script("lead")
    rows = jsonl([{"prompt": "Q?", "completions": ["a", "b"]}])
    path = f"/api/projects/tea/{address}"
    for query, content in (
        ("kind=completions", rows), ("file=rows.jsonl.gz", gzip.compress(rows, mtime=0)),
        ("kind=prompts&priority=3", jsonl([{"prompt": "P?"}])),
    ):  # fmt: skip
        found = client.post(f"{path}?{query}", content=content)
        assert found.status_code == 200, found.text
    assert client.post(f"{path}?file=rows.parquet", content=b"no parquet").status_code == 400
    assert client.post(f"{path}?sort=1", content=rows).status_code == 422
    listed = client.get("/api/openapi.json").json()["paths"]["/api/projects/{project}/" + address]["post"]
    assert {"kind", "file", "priority"} <= {one["name"] for one in listed["parameters"]}
