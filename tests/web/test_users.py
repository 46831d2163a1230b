"""The leads' page of users: decisions with counts, a reversal, and edits that become demonstrations."""

from __future__ import annotations

from datetime import timedelta

import pytest

from collection.served import exchange, keep
from heedful.collection import curation, react
from heedful.collection.settings import QueueConfig
from heedful.feedback import people
from web.site import START, Site


@pytest.fixture(autouse=True)
def curated(site: Site) -> None:
    with site.store.writing() as db:
        people.add_person(db, "ada", None, START)
    texts = ("Mail ada@example.org <b>now</b>", "Mail ada@example.org <b>now</b>", "What is tea?")
    for number, text in enumerate(texts):
        keep(site.store, exchange(str(number), messages=None, prompt=text, started=START + timedelta(minutes=number)))
    with site.store.writing() as db:
        react.edit(db, "2", "ada", "Leaves <i>in</i> water.", now=START)
    curation.curate(site.store, site.project_id, QueueConfig(fractions={"train": 1.0}), START, by=None)


@pytest.mark.medium
def test_the_page_shows_decisions_with_counts_and_no_name(site: Site) -> None:
    lead = site.browser("lead")
    changed, page = (lead.get(f"/lead/tea/users{asked}").text for asked in ("", "?all=1"))
    listed = [text.partition('id="decisions"')[2] for text in (changed, page)]
    assert ["What is tea?" in text for text in listed] == [False, True]  # curation changed nothing of it
    assert ["Mail [email]" in text for text in listed] == [True, True]
    assert "Mail [email] &lt;b&gt;now" in page
    assert "shares its first 100 characters with an earlier prompt" in page
    assert "user-1" in page
    assert ">ada<" not in page
    assert "Leaves &lt;i&gt;in&lt;/i&gt; water." in page
    only = site.browser("reader").get("/lead/tea/users?step=repeat&outcome=repeat").text
    assert ("Mail [email]" in only, "As the user wrote it" in only, ">Reverse<" in only) == (True, False, False)
    assert site.browser("lead").get("/lead/other/users").status_code == 404


@pytest.mark.medium
def test_a_lead_reverses_and_restores(site: Site) -> None:
    lead = site.browser("lead")
    base = "/api/projects/tea"
    found = lead.get(f"{base}/decisions?step=repeat&outcome=repeat").json()
    (one,) = found["decisions"]
    assert (one["exchange_id"], one["drops"], one["prompt"]) == ("1", True, "Mail [email] <b>now</b>")
    assert {"step": "repeat", "outcome": "new", "drops": False, "decisions": 2, "reversed": 0} in found["counts"]
    address = f"{base}/decisions/{one['id']}"
    refused = lead.post(f"{address}/reverse")  # the very same text is in the queue
    assert (refused.status_code, "the queue has this text already" in refused.text) == (400, True)
    (limit,) = lead.get(f"{base}/decisions?step=use_case").json()["decisions"][-1:]
    assert lead.post(f"{base}/decisions/{limit['id']}/reverse").status_code == 204
    assert lead.post(f"{base}/decisions/{limit['id']}/restore").status_code == 204
    assert lead.post(f"{base}/decisions/{limit['id']}/restore").status_code == 400


@pytest.mark.medium
def test_a_lead_accepts_an_edit(site: Site) -> None:
    lead = site.browser("lead")
    assert lead.post("/api/projects/tea/edits/2", json={"accept": True}).status_code == 204
    body = {"name": "demos", "filters": {"records": "demonstration"}}
    assert lead.post("/api/projects/tea/snapshots", json=body).json()["rows"] == 1
    assert "Edits that wait" not in lead.get("/lead/tea/users").text
    assert lead.post("/api/projects/tea/edits/2", json={"accept": True}).status_code == 400


@pytest.mark.medium
def test_reactions_are_shown_among_the_items_of_their_project(site: Site) -> None:
    admin = site.browser("admin")
    listed = admin.get("/lead/served/items?kind=edit")
    assert (listed.status_code, "use of a model" in listed.text) == (200, True)
    ref = listed.text.split("/lead/served/items/")[1].split('"')[0]
    shown = admin.get(f"/lead/served/items/{ref}")
    assert (shown.status_code, "Because of 2." in shown.text) == (200, True)
    assert admin.get("/lead/served").status_code == 200
    assert admin.get("/lead/served/quality").status_code == 200
