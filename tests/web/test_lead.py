"""What leads do through the API, and what their pages show of it."""

from __future__ import annotations

import re

import pytest
from httpx import Response
from starlette.testclient import TestClient

from heedful.data import curation, formats
from heedful.data.records import Completions
from heedful.feedback import items, people, projects
from web.site import Site, jsonl, rank

QUIET = "three quiet words"


TEA = "/api/projects/tea"


def password_link(lead: TestClient, person: int, project: str = "tea") -> str:
    """The token of a new link."""
    link: str = lead.post(f"/api/projects/{project}/people/{person}/password-link").json()["link"]
    return link.removeprefix("http://testserver/password/")


def choose(client: TestClient, token: str, password: str) -> int:
    return client.post("/api/password", json={"token": token, "password": password}).status_code


def sign_in(client: TestClient, name: str, password: str) -> Response:
    return client.post("/api/login", json={"name": name, "password": password})


@pytest.mark.medium
def test_a_forgotten_password_is_chosen_anew_once(site: Site) -> None:
    person = site.ids["labeler"]
    before = site.browser("labeler")
    token, anybody = password_link(site.browser("lead"), person), site.browser()
    assert "For the account" in anybody.get(f"/password/{token}").text
    assert choose(anybody, token, "short") == 400
    assert choose(anybody, token, QUIET) == 204
    assert choose(anybody, token, "another long one") == 404
    assert before.get("/work/tea").headers["location"].startswith("/login")
    assert sign_in(anybody, "labeler", QUIET).status_code == 204
    assert anybody.get("/work/tea").headers["location"] == "/work/tea/demonstration"


@pytest.mark.medium
def test_a_lead_who_opens_a_labelers_link_stays_a_lead(site: Site) -> None:
    lead = site.browser("lead")
    token = lead.post(f"{TEA}/invitations", json={"role": "labeler"}).json()["invitations"][0]["token"]
    answer = lead.post("/api/join", json={"token": token})
    assert (answer.status_code, "this link would make you labeler. The link stays valid" in answer.text) == (400, True)
    assert lead.get("/lead/tea/people").status_code == 200
    joined = site.browser("outsider").post("/api/join", json={"token": token}).json()
    assert joined == {"token": None, "project": "tea", "role": "labeler", "page": "/work/tea"}


@pytest.mark.medium
def test_a_new_password_ends_tokens_for_scripts_too(site: Site) -> None:
    """Who had the account could else go on with a token she made meanwhile."""
    person = site.ids["labeler"]
    token, others = site.script("labeler"), site.script("lead")
    link = password_link(site.browser("lead"), person)
    assert token.get("/api/me").status_code == 200
    choose(site.browser(), link, QUIET)
    assert (token.get("/api/me").status_code, others.get("/api/me").status_code) == (401, 200)
    token, browser = site.script("labeler"), site.browser("labeler")
    assert browser.post("/api/me/password", json={"old": "wrong", "password": QUIET}).status_code == 400
    changed = browser.post("/api/me/password", json={"old": QUIET, "password": "four more quiet words"})
    assert changed.status_code == 204
    assert token.get("/api/me").status_code == 401
    page = browser.get("/account")  # still signed in
    assert (page.status_code, "Revoke</button>" in page.text) == (200, False)


@pytest.mark.medium
def test_tokens_are_created_and_revoked(site: Site) -> None:
    browser = site.browser("labeler")
    made = browser.post("/api/me/tokens", json={"name": "laptop"}).json()
    script = TestClient(site.app, headers={"Authorization": f"Bearer {made['token']}"})
    assert script.get("/api/me").json()["name"] == "labeler"
    assert [(one["id"], one["name"]) for one in browser.get("/api/me/tokens").json()] == [(made["id"], "laptop")]
    assert "laptop" in browser.get("/account").text
    assert browser.delete(f"/api/me/tokens/{made['id']}").status_code == 204
    assert script.get("/api/me").status_code == 401


@pytest.mark.medium
def test_the_link_is_good_for_a_day_and_the_newest_password_ends_all(site: Site) -> None:
    person = site.ids["labeler"]
    lead = site.browser("lead")
    old, other = (password_link(lead, person) for _ in range(2))
    assert choose(site.browser(), other, QUIET) == 204
    assert site.browser().get(f"/password/{old}").status_code == 404
    late = password_link(lead, person)
    site.wait(hours=25)
    assert site.browser().get(f"/password/{late}").status_code == 404


@pytest.mark.medium
def test_a_daily_goal_stands_beside_what_was_done(site: Site) -> None:
    site.settle(rate_first=False)
    site.add_rankings(3)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    assert "data-today>0 today<" in labeler.get("/work/tea/history").text
    assert lead.patch(TEA, json={"settings": {"daily_goal": "40"}}).status_code == 200  # as a form sends it
    rank(site.script("labeler"))
    assert "data-today>1 of 40 today<" in labeler.get("/work/tea/history").text
    assert "<dd>1 of 40</dd>" in labeler.get("/work/tea/progress").text


@pytest.mark.medium
def test_nobody_takes_over_an_account_of_more_than_her_projects(site: Site) -> None:
    with site.store.writing() as db:
        people.join(db, site.project_id, site.ids["admin"], "reader", site.now)
        people.join(db, site.project_id, site.ids["outsider"], "labeler", site.now)
    for name in ("admin", "outsider"):
        assert site.browser("lead").post(f"{TEA}/people/{site.ids[name]}/password-link").status_code == 400
    assert site.browser("admin").post(f"{TEA}/people/{site.ids['outsider']}/password-link").status_code == 201


@pytest.mark.medium
def test_nobody_erases_work_in_a_project_that_she_does_not_lead(site: Site) -> None:
    """Also where the person has left that project: her work is still there."""
    site.add_rankings(1)
    rank(site.script("labeler"))
    person, other = site.ids["labeler"], site.browser("outsider")
    with site.store.writing() as db:
        elsewhere = projects.by_name(db, "other")
        assert elsewhere is not None
        people.join(db, elsewhere.id, person, "labeler", site.now)
        people.change_member(db, site.project_id, person, site.now, by=None, left=True)
    there, name = f"/api/projects/other/people/{person}", {"name": "labeler"}
    answer = other.request("DELETE", there, json=name)
    assert (answer.status_code, "in projects you do not lead" in answer.text) == (400, True)
    assert other.post(f"{there}/password-link").status_code == 400
    stranger = other.request("DELETE", f"/api/projects/other/people/{site.ids['lead']}", json=name)
    assert (stranger.status_code, "lead" in stranger.text) == (404, False)  # no names of other projects' people
    assert site.script("lead").get("/api/projects/tea/agreement").json()["judgements"] == 1
    assert site.browser("admin").request("DELETE", there, json=name).status_code == 200
    figures = site.script("lead").get("/api/projects/tea/agreement").json()
    assert figures["judgements"] == 0  # the log of each project has it, and so its figures are new
    assert site.script("lead").get("/api/projects/tea/audit").json()[0]["action"] == "delete"


@pytest.mark.medium
def test_an_import_is_looked_at_first_and_then_taken_in(site: Site) -> None:
    lead = site.browser("lead")
    rows = jsonl([{"prompt": "Why is the sky blue?"}, {"prompt": "Write to anna@example.org.", "user": "u"}])
    files = {"file": ("march.jsonl", rows)}
    page = lead.post(f"{TEA}/items/preview", files=files, headers={"Accept": "text/html"}).text
    assert "Curation would keep 1 of 2" in page
    assert "email in 1" in page
    report = lead.post(f"{TEA}/items/preview", content=rows).json()["curation"]
    assert (report["given"], report["kept"], report["personal_data"]) == (2, 1, {"email": 1})
    assert "There are no items yet" in lead.get("/lead/tea/items").text  # nothing yet
    added = lead.post(f"{TEA}/items?curate=true&source=march", files=files).json()
    assert (added["items"], added["known"]) == (1, 0)
    assert "sky blue" in lead.get("/lead/tea/items").text
    assert "anna" not in lead.get("/lead/tea/items").text


@pytest.mark.medium
def test_nobody_waits_while_a_file_is_read_and_curated(site: Site, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    waiting = []

    def watched(function):  # type: ignore[no-untyped-def]
        def call(*given, **named):  # type: ignore[no-untyped-def]
            waiting.append(site.store._turn.locked())
            return function(*given, **named)

        return call

    site.add_rankings(1, K=2)
    lead, script = site.browser("lead"), site.script("lead")
    monkeypatch.setattr(formats, "read", watched(formats.read))
    monkeypatch.setattr(curation, "curate", watched(curation.curate))
    prompts = jsonl([{"prompt": "Why is the sky blue?"}])
    assert lead.post(f"{TEA}/items?curate=true", files={"file": ("a.jsonl", prompts)}).status_code == 200
    assert script.post(f"{TEA}/items?curate=true&purpose=evaluate", content=prompts).status_code == 200
    scored = jsonl([{"prompt": "Question 0?", "completions": ["Answer 0.0", "Answer 0.1"], "scores": [0.5, 1.0]}])
    assert lead.post(f"{TEA}/scores", files={"file": ("rm.jsonl", scored)}).json() == {"items": 1}
    assert script.post("/api/projects/tea/scores?name=rm", content=scored).json() == {"items": 1}
    assert waiting == [False] * 6


@pytest.mark.medium
def test_what_is_no_number_in_a_form_is_told(site: Site) -> None:
    """Forms send numbers as texts."""
    site.add_rankings(1)
    rank(site.script("labeler"))
    lead = site.browser("lead")
    for given in ("abc", "nan", "inf", "²", "1.01"):
        filters = {"records": "comparison", "least_agreement": given}
        answer = lead.post(f"{TEA}/snapshots", json={"name": "march", "filters": filters})
        assert (answer.status_code, "least_agreement" in answer.json()["error"]) == (422, True)
    filters = {"records": "comparison", "least_agreement": "0.6", "since": "2026-01-31"}
    answer = lead.post(f"{TEA}/snapshots", json={"name": "march", "filters": filters})
    assert (answer.status_code, answer.json()["filters"]["since"]) == (201, "2026-01-31T00:00:00Z")
    answer = lead.patch(TEA, json={"title": "Other", "settings": {"copies": "nan"}})
    assert (answer.status_code, "copies" in answer.json()["error"]) == (400, True)
    assert lead.get(TEA).json()["title"] == "Tea talk"  # all or nothing
    rows = {"file": ("a.jsonl", jsonl([{"prompt": "Why?"}]))}
    for wanted, status in (("²", 422), ("two", 422), ("0", 422), ("2", 200)):
        assert lead.post(f"{TEA}/items/preview?wanted={wanted}", files=rows).status_code == status, wanted


@pytest.mark.medium
def test_a_known_answer_is_written_as_people_write_it(site: Site) -> None:
    (ref,) = site.add_rankings(1)
    lead = site.browser("lead")
    for answer in ("2 > one", "a > b", "2 >", "{}"):
        sent = lead.post(f"{TEA}/items/{ref}/gold", json={"answer": answer})
        assert (sent.status_code, "write it as 2 > 1 = 3" in sent.json()["error"]) == (422, True)
    made = lead.post(f"{TEA}/items/{ref}/gold", json={"answer": "2 > 1 = 3"}).json()
    assert lead.get(f"{TEA}/items/{made['ref']}").json()["gold"]["ranking"] == [[1], [0, 2]]


@pytest.mark.medium
def test_the_log_says_what_was_changed(site: Site) -> None:
    lead = site.browser("lead")
    lead.patch(TEA, json={"title": "Tea", "archived": True, "settings": {"copies": 3}})
    lead.patch(TEA, json={"title": "Tea", "archived": True, "settings": {"copies": 3}})  # changes nothing
    lead.post(f"{TEA}/instructions/guide", json={"text": "New.\r\n"})
    lead.post(f"{TEA}/instructions/guide", json={"text": "New."})
    told = [(one["action"], one["detail"]) for one in lead.get(f"{TEA}/audit").json()[:4]]
    assert told == [("instructions", {}), ("title", {"title": "Tea"}), ("settings", {"copies": 3}), ("archive", {})]


@pytest.mark.medium
def test_a_malformed_row_is_named_and_nothing_is_stored(site: Site) -> None:
    lead = site.browser("lead")
    rows = jsonl([{"prompt": "Good."}, {"prompt": 7}])
    files = {"file": ("march.jsonl", rows)}
    answer = lead.post(f"{TEA}/items", files=files)
    assert (answer.status_code, "march.jsonl:2: field" in answer.json()["error"]) == (400, True)
    (refused,) = lead.post(f"{TEA}/items/preview", files=files).json()["refused"]
    assert (refused["line"], "field 'prompt'" in refused["reason"]) == (2, True)
    assert "There are no items yet" in lead.get("/lead/tea/items").text
    assert list((site.folder / ".uploads").iterdir()) == []


@pytest.mark.medium
def test_texts_are_as_long_as_allowed_and_a_file_as_large(site: Site) -> None:
    long = jsonl([{"prompt": "x" * 500_001}])
    page = site.browser("lead").post(f"{TEA}/items/preview", files={"file": ("a.jsonl", long)})
    assert (page.status_code, "500,001 characters. At most 500,000 are" in page.text) == (400, True)
    site.app.user_middleware[0].kwargs["upload_mb"] = 0.001
    site.app.middleware_stack = None
    page = site.browser("lead").post(f"{TEA}/items/preview", files={"file": ("a.jsonl", long)})
    assert page.status_code == 413


@pytest.mark.medium
def test_an_item_tells_all_that_happened_to_it(site: Site) -> None:
    (ref,) = site.add_rankings(1)
    rank(site.script("labeler"), [[0], [1, 2]])
    site.script("labeler").post("/api/projects/tea/undo", json={})
    page = site.browser("lead").get(f"/lead/tea/items/{ref}").text
    for told in (
        "judged it",
        "took the last one back",
        "no longer counts",
        "Answer 0.2",
        "4 of 7",
        "in 1 min",
        "shown",
    ):
        assert told in page, told


@pytest.mark.medium
def test_deleting_a_person_asks_for_the_name_and_names_the_snapshots(site: Site) -> None:
    site.add_rankings(1)
    rank(site.script("labeler"))
    lead, person = site.browser("lead"), site.ids["labeler"]
    march = {"name": "march", "filters": {"records": "comparison"}}
    assert lead.post(f"{TEA}/snapshots", json=march).status_code == 201
    for name in ({}, {"name": ""}, {"name": "Labeler"}):
        assert lead.request("DELETE", f"{TEA}/people/{person}", json=name).status_code in (400, 422)
    found = lead.request("DELETE", f"{TEA}/people/{person}", json={"name": "labeler"}).json()
    assert [path.endswith("snapshots/tea/march") for path in found["snapshots"]] == [True]
    assert sign_in(site.browser(), "labeler", QUIET).status_code == 401
    assert "delete" in lead.get("/lead/tea/log").text


@pytest.mark.medium
def test_wrong_passwords_have_to_wait(site: Site) -> None:
    anybody = site.browser()
    codes = [sign_in(anybody, "lead", f"wrong {i}").status_code for i in range(10)]
    assert codes == [401] * 8 + [429] * 2
    assert int(sign_in(anybody, "lead", "wrong").headers["retry-after"]) >= 1


@pytest.mark.medium
def test_figures_forget_a_deleted_person_at_once(site: Site) -> None:
    site.add_rankings(1, wanted=2)
    for name in ("labeler", "lead"):
        rank(site.script(name))
    reader = site.browser("reader")
    assert "2 comparisons of answers" in reader.get("/lead/tea/quality").text
    site.browser("lead").request("DELETE", f"{TEA}/people/{site.ids['labeler']}", json={"name": "labeler"})
    page = reader.get("/lead/tea/quality").text
    assert "1 comparison of answers" in page
    assert ">labeler<" not in page


@pytest.mark.medium
def test_a_snapshot_says_how_many_judgements_are_held_back(site: Site) -> None:
    ref, _ = site.add_rankings(2)
    for _ in range(2):
        rank(site.script("labeler"))
    lead = site.browser("lead")
    filters = {"records": "comparison"}
    lead.post(f"{TEA}/snapshots", json={"name": "march", "filters": filters})
    assert "held back" not in lead.get("/lead/tea/snapshots").text
    with site.store.writing() as db:
        items.change(db, site.project_id, ref, site.now, by=None, held="withdrawn")
    lead.post(f"{TEA}/snapshots", json={"name": "april", "filters": filters})
    assert lead.get("/lead/tea/snapshots").text.count("1 held back") == 1


@pytest.mark.medium
def test_of_a_redacted_item_what_happened_is_shown(site: Site) -> None:
    (ref,) = site.add_rankings(1)
    rank(site.script("labeler"))
    lead = site.browser("lead")
    assert lead.post(f"{TEA}/items/{ref}/redact", json={"why": ""}).status_code == 422
    assert lead.post(f"{TEA}/items/{ref}/redact", json={"why": "names a person"}).status_code == 204
    page = lead.get(f"/lead/tea/items/{ref}")
    assert page.status_code == 200
    assert "The texts were deleted" in page.text
    assert "judged it" in page.text
    assert "Answer 0.2" not in page.text
    assert "Delete all texts" not in page.text


@pytest.mark.medium
def test_agreement_is_measured_on_the_work_and_not_on_known_answers(site: Site) -> None:
    """On gold items, which everybody gets, all agree; on the doubled one the two are of opposite opinions."""
    site.settle(gold_share=1.0, show_agreement=True)
    site.add_rankings(3, K=2, purpose="gold", gold=[{"ranking": [[0], [1]]}] * 3)
    (doubled,) = site.add_rankings(1, K=2, start=3, wanted=2)
    with site.store.writing() as db:
        people.join(db, site.project_id, site.ids["lead"], "lead", site.now, group="long")
    for name, best in (("labeler", 0), ("lead", 1)):
        script = site.script(name)
        for _ in range(4):
            task = script.post("/api/projects/tea/next").json()["task"]
            first = int(task["completions"][0].endswith(str(best) if task["ref"] == doubled else "0"))
            rank(script, [[0], [1]] if first else [[1], [0]])
    found = site.script("lead").get("/api/projects/tea/agreement").json()
    assert (found["judgements"], found["all"]["items"], found["all"]["rate"]["mean"]) == (8, 1, 0)
    assert found["labelers"]["labeler"]["mean"] == 0
    assert [split["item"] for split in found["opposed"]] == [doubled]
    assert {name: (one["items"], one["accuracy"]["mean"]) for name, one in found["gold"].items()} == {
        "labeler": (3, 1), "lead": (3, 1),
    }  # fmt: skip
    assert "<strong>0 %</strong>" in site.browser("labeler").get("/work/tea/progress").text
    page = " ".join(site.browser("lead").get(f"/lead/tea/items/{doubled}").text.split())
    together = re.findall(r'<th scope="row">(?:<bdi>)?(\w+)(?:</bdi>)?</th>(.*?)</tr>', page)
    ranks = {name: re.findall(r"<strong>(\d)</strong>", cells) for name, cells in together}
    assert ranks == {"Together": ["1", "1"], "brief": ["1", "2"], "long": ["2", "1"]}


@pytest.mark.medium
def test_people_read_tool_calls_and_their_answers(site: Site) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Orm"}}}
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
    ]
    row = Completions.model_validate({"prompt": turns, "completions": ["Sun.", "It is sunny."]})
    site.settle(rate_first=False)
    with site.store.writing() as db:
        (ref,) = items.add(db, site.project_id, "ranking", [row], site.now, by=None).refs
    task = site.browser("labeler").get("/work/tea/ranking").text
    item = site.browser("lead").get(f"/lead/tea/items/{ref}").text
    for page in (task, item):
        for told in ("Developer", "Tool", "sunny", "weather", "Orm"):
            assert told in page, told


@pytest.mark.medium
def test_many_invitations_at_once(site: Site) -> None:
    lead = site.browser("lead")
    body = {"role": "labeler", "group": "north", "notes": ["Ada", "Bob, by phone"], "hours": 24}
    made = lead.post(f"{TEA}/invitations", json=body).json()
    assert [one["note"] for one in made["invitations"]] == ["Ada", "Bob, by phone"]
    links = [one["link"] for one in made["invitations"]]
    assert len(set(links)) == 2
    assert made["lines"] == f"Ada: {links[0]}\nBob, by phone: {links[1]}"
    page = lead.get("/lead/tea/people").text
    assert all(note in page for note in ("Ada", "Bob, by phone"))
    assert "work on this computer only" not in page  # the test server has a public name
    refused = lead.post(f"{TEA}/invitations", json={"notes": ["x"] * 101})
    assert refused.status_code == 422


def test_links_that_only_this_computer_can_open_are_told() -> None:
    from heedful.web.settings import WebSettings

    local = ("http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000/label", "http://127.3.2.1")
    assert [WebSettings(base_url=url).is_local for url in local] == [True] * 4
    public = (
        "http://192.168.1.4:8000",
        "https://label.example.org",
        "http://localhost.example.org",
        "http://[fe80::1]:80",
    )
    assert [WebSettings(base_url=url).is_local for url in public] == [False] * 4
