"""The rubric as project settings: the page, its preview, what labelers submit, what follows in figures and files."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from starlette.testclient import TestClient

from web.site import Site, rank

TEA = "/api/projects/tea"


def change(client: TestClient, **rubric: Any) -> Any:
    return client.patch(TEA, json={"settings": {"rubric": rubric}})


def submit(client: TestClient, flag: str | None) -> Any:
    """Rate and rank two answers. The flag holds for both answers to the first question."""
    task = client.post(f"{TEA}/next").json()["task"]
    said = {flag: task["prompt"] == "Question 0?"} if flag else {}
    answer = {"ranking": [[0], [1]], "ratings": [{"overall": 3, **said}] * 2}
    body = {"answer": answer, "idempotency_key": secrets.token_hex(8)}
    return client.post(f"{TEA}/tasks/{task['lease']}/submit", json=body)


@pytest.mark.medium
def test_own_flags_from_the_page_to_the_files(site: Site) -> None:
    site.add_rankings(2, K=2, wanted=2)
    lead = site.script("lead")
    assert change(lead, own_flags=["Off topic"], flags=["sexual"]).status_code == 200
    for name in ("labeler", "lead"):
        page = site.browser(name).get("/work/tea/ranking").text
        assert 'name="off_topic"' in page
        assert 'name="violent"' not in page
        script = site.script(name)
        refused = submit(script, "rude")
        assert (refused.status_code, "no flag 'rude'" in refused.json()["error"]) == (400, True), refused.text
        assert submit(script, "off_topic").status_code == 200
        assert submit(script, "off_topic").status_code == 200
    agreement = lead.get(f"{TEA}/agreement").json()
    assert agreement["flags"]["off_topic"]["mean"] == 1.0
    assert agreement["flags"]["sexual"] is None
    assert "Off topic" in site.browser("lead").get("/lead/tea/quality").text
    made = lead.post(f"{TEA}/snapshots", json={"name": "one", "filters": {"records": "comparison"}}).json()
    rows = lead.get(f"{TEA}/snapshots/{made['id']}/records.jsonl").text
    assert rows.count('"off_topic": true') == 4
    past = site.browser("labeler").get("/work/tea/history").text
    event = past.partition('href="/work/tea/history/')[2].partition('"')[0]
    assert "3 of 7" in site.browser("labeler").get(f"/work/tea/history/{event}").text


@pytest.mark.medium
def test_a_flag_with_the_name_of_a_method(site: Site) -> None:
    """Records have methods `json`, `copy` and `row`. Flags of these names count as any other."""
    site.add_rankings(2, K=2, wanted=2)
    lead = site.script("lead")
    names = ["json", "copy", "row"]
    assert change(lead, own_flags=[f"{name}: It is wrong" for name in names], flags=[]).status_code == 200
    for name in ("labeler", "lead"):
        script = site.script(name)
        assert [submit(script, "json").status_code for _ in range(2)] == [200, 200]
    assert lead.get(f"{TEA}/agreement").json()["flags"]["json"]["mean"] == 1.0
    assert site.browser("lead").get("/lead/tea/quality").status_code == 200


@pytest.mark.medium
def test_a_change_in_part_leaves_the_rest(site: Site) -> None:
    """Of the rubric, and of every section of the settings."""
    lead = site.script("lead")
    change(lead, own_flags=["Off topic"])
    after = change(lead, qualities=["bad", "good"]).json()["settings"]
    assert [flag["name"] for flag in after["rubric"]["own_flags"]] == ["off_topic"]
    assert after["rubric"]["qualities"] == ["bad", "good"]
    lead.patch(TEA, json={"settings": {"alerts": {"least": 3}}})
    after = lead.patch(TEA, json={"settings": {"alerts": {"copied": 0.5}}}).json()["settings"]
    assert (after["alerts"]["least"], after["alerts"]["copied"]) == (3, 0.5)


@pytest.mark.medium
def test_the_scale_stays_once_somebody_rated(site: Site) -> None:
    site.add_rankings(1)
    lead = site.script("lead")
    assert change(lead, qualities=["bad", "good"]).status_code == 200
    assert change(lead, qualities=["1", "2", "3", "4", "5"]).status_code == 200
    rank(site.script("labeler"))
    refused = change(lead, qualities=["bad", "good"])
    assert (refused.status_code, "rated on a scale of 1 to 5" in refused.json()["error"]) == (400, True)
    assert change(lead, qualities=["a", "b", "c", "d", "e"]).status_code == 200


@pytest.mark.medium
def test_the_preview_is_the_page_and_stores_nothing(site: Site) -> None:
    lead = site.browser("lead")
    rubric = {"own_flags": ["<b>Off</b> topic"], "flags": ["opinion"], "qualities": ["bad", "good"]}
    rubric |= {"order_rule": "True first\nThen kind", "choice_rule": "Be <i>fair</i>"}
    shown = lead.post(f"{TEA}/rubric-preview", json={"settings": {"rubric": rubric}})
    assert shown.status_code == 200
    assert "&lt;b&gt;Off&lt;/b&gt; topic" in shown.text
    assert 'name="opinion"' in shown.text
    assert 'name="sexual"' not in shown.text
    assert "1 bad … 2 good" in shown.text
    assert "<strong>True first</strong>. Then kind" in shown.text
    assert "<strong>Be &lt;i&gt;fair&lt;/i&gt;</strong>" in shown.text
    assert (
        "rank all answers at once" in lead.post(f"{TEA}/rubric-preview", json={"settings": {"rate_first": False}}).text
    )
    refused = lead.post(f"{TEA}/rubric-preview", json={"settings": {"rubric": {"flags": ["no"]}}})
    assert (refused.status_code, "the paper has no flag" in refused.json()["error"]) == (400, True)
    assert lead.get(TEA).json()["settings"]["rubric"]["own_flags"] == []
    assert "The paper&#39;s rubric" in lead.get("/lead/tea/settings/rubric").text
    assert site.browser("reader").get("/lead/tea/settings/rubric").status_code == 403


@pytest.mark.medium
@pytest.mark.parametrize("rule", ["", "Kind first", "Kind first\n\nThen true."])
def test_rules_are_shown(site: Site, rule: str) -> None:
    site.add_rankings(1)
    change(site.script("lead"), order_rule=rule, use_cases=["haiku"])
    page = site.browser("labeler").get("/work/tea/ranking").text
    assert all(line in page for line in rule.split("\n"))
    assert "Helpful first" not in page


@pytest.mark.medium
def test_screening_without_sensitive_flags_is_not_asked(site: Site) -> None:
    """Nobody could set them, which is no agreement."""
    change(site.script("lead"), flags=["opinion"])
    site.script("lead").patch(f"{TEA}/people/{site.ids['labeler']}", json={"phase": "screening"})
    site.add_rankings(1, K=2, purpose="screening", gold=[{"ranking": [[0], [1]], "ratings": [{"sexual": True}, {}]}])
    submit(site.script("labeler"), None)
    report = site.script("lead").get(f"{TEA}/people/{site.ids['labeler']}/screening").json()
    assert {one["name"]: one["figure"] for one in report["criteria"]}["sensitive flags"] is None
