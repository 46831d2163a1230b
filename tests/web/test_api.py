"""The API as docs/api.md describes it: the example runs against a server, and the tables list every route."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from heedful.feedback import people, work
from heedful.web.pages import api_reference
from web.browser.place import Server
from web.site import Site, rank

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.medium
def test_the_example_of_the_page_labels(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.add_rankings(3)
    with site.store.writing() as db:
        token = people.new_token(db, site.ids["labeler"], "api", site.now, name="script")[1]
    server = Server.of(site.app)
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    first = 'SERVER, PROJECT, TOKEN = "http://localhost:8000", "demo", "..."'
    assert first in found[1]
    here = f'SERVER, PROJECT, TOKEN = "{server.address}", "tea", "{token}"'
    try:
        exec(compile(found[1].replace(first, here), "docs/api.md", "exec"), {})
    finally:
        server.stop()
    assert capsys.readouterr().out == "3 judgements\n"
    with site.store.reading() as db:
        past = work.history(db, site.project_id, site.ids["labeler"])
    assert [one.answer["ranking"] for one in past if one.answer] == [[[0], [1], [2]]] * 3


def table(site: Site) -> dict[str, list[str]]:
    """The lines of the page's tables, by tag: every route with the first sentence of its description."""
    described = site.browser().get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    lines: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            words = " ".join(operation["description"].split()).partition(". ")[0].rstrip(".")
            short = path.removeprefix("/api/projects/{project}") if operation["tags"] != ["account"] else path
            name = f"{method.upper()} {short or path}"
            lines.setdefault(operation["tags"][0], []).append(f"| `{name}` | {words} |")
    return lines


@pytest.mark.medium
def test_the_page_lists_every_route_and_no_other(site: Site) -> None:
    """Where it fails: put the lines that it names into docs/api.md."""
    for tag, lines in table(site).items():
        found = re.findall(rf"<!-- routes: {tag} -->\n\n(.*?)\n\n", PAGE, re.DOTALL)
        assert found[0].split("\n")[2:] == lines, "\n".join(["", *lines])


@pytest.mark.medium
def test_the_description_is_made_once_however_many_ask(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI fails if two threads make it, and everybody else waits as long as it is made."""
    made, make = [], api_reference.get_openapi

    def slowly(**given: Any) -> dict[str, Any]:
        made.append(given)
        time.sleep(0.05)
        return make(**given)

    monkeypatch.setattr(api_reference, "get_openapi", slowly)
    paths = ["/api/openapi.json", "/api/docs"] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: site.browser().get(path), paths))
    assert [answer.status_code for answer in found] == [200] * 8
    assert [len({answer.text for answer in found[first::2]}) for first in (0, 1)] == [1, 1]
    assert len(made) == 1


@pytest.mark.medium
def test_a_repeated_answer_is_taken_once_and_another_key_is_refused(site: Site) -> None:
    site.add_rankings(1)
    script = site.script("labeler")
    task = script.post("/api/projects/tea/next").json()["task"]
    body = {"answer": {"ranking": [[2], [0, 1]], "ratings": [{"overall": 4}] * 3}, "idempotency_key": "one answer"}
    address = f"/api/projects/tea/tasks/{task['lease']}/submit"
    first, second = script.post(address, json=body), script.post(address, json=body)
    assert (first.json()["repeated"], second.json()["repeated"]) == (False, True)
    assert first.json()["event"] == second.json()["event"]
    other = script.post(address, json=body | {"idempotency_key": "another key"})
    assert (other.status_code, other.json()["code"]) == (409, "done")
    assert script.get("/api/projects/tea/my-progress").json()["total"] == 1


@pytest.mark.medium
def test_answers_come_back_in_the_items_own_order(site: Site) -> None:
    """Places are the labeler's, indices the item's."""
    (ref,) = site.add_rankings(1)
    rank(site.script("labeler"), [[1], [0, 2]])
    (event,) = site.script("lead").get(f"/api/projects/tea/items/{ref}").json()["events"]
    order = event["order"]
    assert sorted(order) == [0, 1, 2]
    assert event["content"]["ranking"] == [[order[1]], sorted((order[0], order[2]))]


@pytest.mark.medium
@pytest.mark.parametrize("draft", ["\ud800", {"completion": ["\udfff"]}])
def test_half_a_character_is_refused(site: Site, draft: object) -> None:
    site.add_rankings(1)
    script = site.script("labeler")
    lease = script.post("/api/projects/tea/next").json()["task"]["lease"]
    sent = script.put(
        f"/api/projects/tea/tasks/{lease}/draft",
        content=json.dumps({"draft": draft}),
        headers={"Content-Type": "application/json"},
    )
    assert sent.status_code == 422


@pytest.mark.medium
def test_a_candidate_is_screened_through_the_api(site: Site) -> None:
    lead = site.script("lead")
    person = site.ids["labeler"]
    address = f"/api/projects/tea/people/{person}"
    assert lead.patch(address, json={"phase": "screening"}).status_code == 200
    site.add_prompts(1, purpose="screening")
    script = site.script("labeler")
    task = script.post("/api/projects/tea/next").json()["task"]
    body = {"answer": {"completion": "Tea is a leaf."}, "idempotency_key": "screening 1"}
    event = script.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body).json()["event"]
    unrated = {"event": event, "prompt": "Write about 0.", "completion": "Tea is a leaf."}
    assert lead.get("/api/projects/tea/unrated").json() == [unrated]
    assert lead.post(f"/api/projects/tea/events/{event}/rating", json={"rating": 5}).status_code == 204
    assert lead.get("/api/projects/tea/unrated").json() == []
    report = lead.get(f"{address}/screening").json()
    figures = {one["name"]: (one["figure"], one["met"]) for one in report["criteria"]}
    assert figures["demonstrations"] == (5.0, False)  # the cut-off is 6
    assert report["recommended"] is False


@pytest.mark.medium
def test_sampling_through_the_api_says_what_there_is(site: Site) -> None:
    site.add_prompts(2)
    lead = site.script("lead")
    assert lead.get("/api/projects/tea/sampling").json() == {"missing": None, "models": [], "addresses": [], "jobs": []}
    answer = lead.post("/api/projects/tea/sampling", json={"models": ["../elsewhere"]})
    assert (answer.status_code, "not a finished run" in answer.json()["error"]) == (400, True)
    assert lead.post("/api/projects/tea/sampling/1/queue").status_code == 400


@pytest.mark.medium
def test_a_number_that_no_database_holds_is_refused(site: Site) -> None:
    """In addresses and bodies, of the API and of pages."""
    lead, labeler, huge = site.script("lead"), site.script("labeler"), 2**63
    project = "/api/projects/tea"
    for answer in (
        lead.patch(f"{project}/people/{huge}", json={}),
        lead.delete(f"{project}/people/{huge}"),
        lead.delete(f"{project}/invitations/{huge}"),
        lead.get(f"{project}/audit?before={huge}"),
        labeler.get(f"{project}/history?before={-huge - 1}"),
        labeler.post(f"{project}/undo", json={"event": huge}),
        site.browser("lead").get(f"/lead/tea/log?before={huge}"),
        site.browser("lead").get(f"/lead/tea/people/{huge}"),
        site.browser("labeler").get(f"/work/tea/history?before={huge}"),
    ):
        assert answer.status_code == 422, answer.request.url


@pytest.mark.medium
def test_a_page_that_was_made_for_somebody_else_writes_nothing(site: Site) -> None:
    site.add_rankings(1)
    labeler = site.browser("labeler")
    for path in ("/api/projects/tea/next", "/api/me/tokens", "/api/markdown"):
        found = labeler.post(path, json={"text": "x"}, headers={"Heedful-Person": str(site.ids["lead"])})
        assert (found.status_code, found.json()["code"]) == (401, "other_person"), path
    own = {"Heedful-Person": str(site.ids["labeler"])}
    assert labeler.post("/api/projects/tea/next", headers=own).status_code == 200
    token = (
        site.browser("lead")
        .post("/api/projects/tea/invitations", json={"role": "lead"})
        .json()["invitations"][0]["token"]
    )
    joining = labeler.post("/api/join", json={"token": token}, headers={"Heedful-Person": str(site.ids["lead"])})
    assert joining.json()["code"] == "other_person"
