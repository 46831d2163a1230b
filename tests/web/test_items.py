"""The list of items, changes of many, and a judgement that goes back to its labeler, through the API and on pages."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from heedful.feedback import items
from heedful.feedback.judgements import Versus
from web.site import Site, rank

TEA = "/api/projects/tea"


def refs(client: TestClient, **query: str | int) -> list[str]:
    return [item["ref"] for item in client.get(f"{TEA}/items", params=query).json()]


@pytest.mark.medium
def test_the_list_is_searched_and_paged(site: Site) -> None:
    added = site.add_rankings(120)
    lead = site.browser("lead")
    page = lead.get("/lead/tea/items?search=question&order=&page=2").text
    assert "51 to 100 of 120 items" in page
    assert "Page 2 of 3" in page
    assert re.search(r'<a href="/lead/tea/items/[^"]+" id="item-\d+" dir="auto">Question 69\?</a>', page)
    assert 'href="/lead/tea/items?search=question&amp;page=3"' in page
    assert "1 to 1 of 1 item." in lead.get("/lead/tea/items?search=%22question+77%22").text
    assert "No items match" in lead.get("/lead/tea/items?state=held").text
    assert "Page 3 of 3" in lead.get("/lead/tea/items?page=99").text
    assert lead.get("/lead/tea/items?state=opened").status_code == 422
    assert refs(lead, search="question", limit=2) == [added[119], added[118]]
    assert refs(lead, before=added[118], limit=1) == refs(lead, offset=2, limit=1) == [added[117]]
    assert lead.get(f"{TEA}/items?open=true").status_code == 422  # a filter that does not exist is not passed over


@pytest.mark.medium
def test_many_items_change_at_once(site: Site) -> None:
    added = site.add_rankings(3)
    lead = site.browser("lead")
    assert lead.patch(f"{TEA}/items", json={"refs": added[:2], "priority": 5}).json() == {"items": 2}
    assert refs(lead, order="priority") == [added[1], added[0], added[2]]
    assert lead.patch(f"{TEA}/items", json={"matching": {"search": "question"}, "held": "old"}).json() == {"items": 3}
    assert (refs(lead, state="open"), len(refs(lead, state="held"))) == ([], 3)
    assert lead.patch(f"{TEA}/items", json={"matching": {}, "held": ""}).json() == {"items": 3}
    logged = [(one["action"], one["target"]) for one in lead.get(f"{TEA}/audit").json()[:2]]
    assert logged == [("release", "3 items"), ("hold", "3 items")]
    for body in ({"priority": 1}, {"refs": added}, {"refs": added, "matching": {}, "priority": 1}):
        assert lead.patch(f"{TEA}/items", json=body).status_code == 422
    assert site.browser("reader").patch(f"{TEA}/items", json={"matching": {}, "priority": 1}).status_code == 403
    assert "data-bulk" in lead.get("/lead/tea/items").text
    assert 'name="refs"' not in site.browser("reader").get("/lead/tea/items").text


@pytest.mark.medium
def test_a_judgement_goes_back_to_its_labeler_with_a_note(site: Site) -> None:
    site.settle(rate_first=False)
    (ref,) = site.add_rankings(1)
    event = rank(site.script("labeler"))["event"]
    lead, labeler = site.browser("lead"), site.browser("labeler")
    assert f"/events/{event}/send-back" in lead.get(f"/lead/tea/items/{ref}").text
    assert site.browser("reader").post(f"{TEA}/events/{event}/send-back", json={"note": "x"}).status_code == 403
    sent = lead.post(f"{TEA}/events/{event}/send-back", json={"note": "Is <b> really best?"})
    assert sent.status_code == 201
    task = site.script("labeler").post(f"{TEA}/next").json()["task"]
    assert (task["sent_back"], task["corrects"]) == ("Is <b> really best?", event)
    page = labeler.get("/work/tea/ranking").text
    assert "A lead sent this back to you" in page
    assert "Is &lt;b&gt; really best?" in page
    assert "sent back</span>" in labeler.get("/work/tea/history").text
    assert "A lead sent this back" in labeler.get(f"/work/tea/history/{event}").text
    history = lead.get(f"{TEA}/items/{ref}").json()
    assert [(one["kind"], one["stands"]) for one in history["events"]] == [("judgement", False), ("sent_back", False)]
    page = lead.get(f"/lead/tea/items/{ref}").text
    assert "sent it back" in page
    assert "Who said what" not in page  # no judgement counts


@pytest.mark.medium
def test_the_matrix_shows_ranks_ratings_flags_and_time(site: Site) -> None:
    site.settle(rate_first=False, double_share=1.0)
    (ref,) = site.add_rankings(1)
    rank(site.script("labeler"), [[0, 1], [2]], seconds=125)
    rank(site.script("lead"))
    page = site.browser("lead").get(f"/lead/tea/items/{ref}").text
    matrix = page[page.index('<table class="matrix"') : page.index("</table>")]
    rows = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in matrix.split("<tr>")[1:]]
    of_labeler = next(row for row in rows if row[0] == "labeler")
    numbers = sorted(of_labeler[2 : of_labeler.index("min") - 1])
    assert of_labeler[1] == "brief"
    assert "".join(numbers).count("tie") == 2  # two share rank 1, the third has rank 3
    assert [word for word in numbers if len(word) == 1][:3] == ["1", "1", "3"]
    assert ("2 min" in matrix, "4 of 7" in matrix) == (True, True)
    assert "Together" in matrix


@pytest.mark.medium
def test_both_answers_may_be_bad(site: Site) -> None:
    payload = Versus.model_validate({"prompt": "Q?", "a": {"text": "x"}, "b": {"text": "y"}})
    with site.store.writing() as db:
        (ref,) = items.add(db, site.project_id, "choice", [payload], site.now, by=None).refs
    script = site.script("labeler")
    task = script.post(f"{TEA}/next").json()["task"]
    assert 'value="bad"' in site.browser("labeler").get("/work/tea/choice").text
    answer = {"preferred": "tie", "none_acceptable": True}
    body = {"answer": answer, "idempotency_key": "both bad 1"}
    assert script.post(f"{TEA}/tasks/{task['lease']}/submit", json=body).status_code == 200
    assert script.get(f"{TEA}/history").json()[0]["answer"] == answer
    assert "both are bad" in site.browser("labeler").get("/work/tea/history").text
    lead = site.browser("lead")
    assert "both are bad" in lead.get(f"/lead/tea/items/{ref}").text
    made = lead.post(f"{TEA}/items/{ref}/gold", json={"answer": "both bad"}).json()["ref"]
    assert lead.get(f"{TEA}/items/{made}").json()["gold"] == answer
    assert lead.get(f"{TEA}/agreement").json()["none_acceptable"] == 1
