"""What leads do on their pages, through forms."""

from __future__ import annotations

import re

from heedful.data import curation, formats
from heedful.feedback import items, people, projects
from web.site import Site, jsonl, rank

QUIET = "three quiet words"


def link_on(page: str) -> str:
    found = re.search(r'link-once">http://testserver(\S+?)<', page)
    assert found is not None
    return found[1]


def test_a_forgotten_password_is_chosen_anew_once(site: Site) -> None:
    person = site.ids["labeler"]
    before = site.browser("labeler")
    page = site.browser("lead").post(f"/lead/tea/people/{person}/password")
    there, anybody = link_on(page.text), site.browser()
    assert "For the account" in anybody.get(there).text
    assert anybody.post(there, data={"password": "short"}).status_code == 400
    assert anybody.post(there, data={"password": QUIET}).headers["location"] == "/login"
    assert anybody.post(there, data={"password": "another long one"}).status_code == 404
    assert before.get("/work/tea").headers["location"].startswith("/login")
    assert anybody.post("/login", data={"name": "labeler", "password": QUIET}).status_code == 303


def test_a_lead_who_opens_a_labelers_link_stays_a_lead(site: Site) -> None:
    lead = site.browser("lead")
    link = link_on(lead.post("/lead/tea/people/invite", data={"role": "labeler"}).text)
    answer = lead.post(link)
    assert (answer.status_code, "this link would make you labeler. The link stays valid" in answer.text) == (400, True)
    assert lead.get("/lead/tea/people").status_code == 200
    assert site.browser("outsider").post(link).headers["location"] == "/work/tea"


def test_a_new_password_ends_tokens_for_scripts_too(site: Site) -> None:
    """Who had the account could else go on with a token she made meanwhile."""
    person = site.ids["labeler"]
    token, others = site.script("labeler"), site.script("lead")
    link = link_on(site.browser("lead").post(f"/lead/tea/people/{person}/password").text)
    assert token.get("/api/me").status_code == 200
    site.browser().post(link, data={"password": QUIET})
    assert (token.get("/api/me").status_code, others.get("/api/me").status_code) == (401, 200)
    token, browser = site.script("labeler"), site.browser("labeler")
    page = browser.post("/account/password", data={"old": QUIET, "password": "four more quiet words"})
    assert "Your tokens for scripts have ended, too" in page.text
    assert "/revoke" not in page.text
    assert token.get("/api/me").status_code == 401
    assert browser.get("/account").status_code == 200
    page = browser.post("/account/password", data={"old": "four more quiet words", "password": QUIET})
    assert "tokens for scripts have ended" not in page.text


def test_the_link_is_good_for_a_day_and_the_newest_password_ends_all(site: Site) -> None:
    person = site.ids["labeler"]
    lead = site.browser("lead")
    old, other = (link_on(lead.post(f"/lead/tea/people/{person}/password").text) for _ in range(2))
    site.browser().post(other, data={"password": QUIET})
    assert site.browser().get(old).status_code == 404
    late = link_on(lead.post(f"/lead/tea/people/{person}/password").text)
    site.wait(hours=25)
    assert site.browser().get(late).status_code == 404


def test_a_daily_goal_stands_beside_what_was_done(site: Site) -> None:
    site.settle(rate_first=False)
    site.add_rankings(3)
    lead, labeler = site.browser("lead"), site.browser("labeler")
    assert "data-today>0 today<" in labeler.get("/work/tea/history").text
    form = lead.get("/lead/tea/settings").text
    sent = dict(re.findall(r'name="([\w.]+)" type="number"[^>]* value="([^"]+)"', form)) | {"daily_goal": "40"}
    chosen = {"title": "Tea", "kinds": ["ranking"], "policy": "random", "first_phase": "work", "show_progress": "1"}
    assert lead.post("/lead/tea/settings", data=sent | chosen).status_code == 303
    rank(site.script("labeler"))
    assert "data-today>1 of 40 today<" in labeler.get("/work/tea/history").text
    assert "<dd>1 of 40</dd>" in labeler.get("/work/tea/progress").text


def test_nobody_takes_over_an_account_of_more_than_her_projects(site: Site) -> None:
    with site.store.writing() as db:
        people.join(db, site.project_id, site.ids["admin"], "reader", site.now)
        people.join(db, site.project_id, site.ids["outsider"], "labeler", site.now)
    for name in ("admin", "outsider"):
        answer = site.browser("lead").post(f"/lead/tea/people/{site.ids[name]}/password")
        assert answer.status_code == 400
        assert "link-once" not in answer.text
    assert site.browser("admin").post(f"/lead/tea/people/{site.ids['outsider']}/password").status_code == 200


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
    page = other.post(f"/lead/other/people/{person}/delete", data={"name": "labeler"})
    assert (page.status_code, "in projects you do not lead" in page.text) == (400, True)
    assert "link-once" not in other.post(f"/lead/other/people/{person}/password").text
    assert site.script("lead").get("/api/projects/tea/agreement").json()["judgements"] == 1
    page = site.browser("admin").post(f"/lead/other/people/{person}/delete", data={"name": "labeler"})
    assert page.status_code == 200
    figures = site.script("lead").get("/api/projects/tea/agreement").json()
    assert figures["judgements"] == 0  # the log of each project has it, and so its figures are new
    assert site.script("lead").get("/api/projects/tea/audit").json()[0]["action"] == "delete"


def test_an_import_is_looked_at_first_and_then_taken_in(site: Site) -> None:
    lead = site.browser("lead")
    rows = jsonl([{"prompt": "Why is the sky blue?"}, {"prompt": "Write to anna@example.org.", "user": "u"}])
    page = lead.post("/lead/tea/import", data={"do": "preview"}, files={"file": ("march.jsonl", rows)}).text
    assert "Curation would keep 1 of 2" in page
    assert "email in 1" in page
    token = re.search(r'name="token" value="(\S+?)"', page)
    assert token is not None
    assert "No item is like that" in lead.get("/lead/tea/items").text  # nothing yet
    form = {"do": "import", "token": token[1], "kind": "prompts", "curate": "1", "source": "march"}
    assert "1 item in the queue" in lead.post("/lead/tea/import", data=form).text
    assert "sky blue" in lead.get("/lead/tea/items").text
    assert "anna" not in lead.get("/lead/tea/items").text


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
    form = {"do": "import", "kind": "prompts", "curate": "1"}
    assert lead.post("/lead/tea/import", data=form, files={"file": ("a.jsonl", prompts)}).status_code == 200
    assert script.post("/api/projects/tea/items?curate=true&purpose=evaluate", content=prompts).status_code == 200
    scored = jsonl([{"prompt": "Question 0?", "completions": ["Answer 0.0", "Answer 0.1"], "scores": [0.5, 1.0]}])
    assert lead.post("/lead/tea/scores/import", files={"file": ("rm.jsonl", scored)}).status_code == 303
    assert script.post("/api/projects/tea/scores?name=rm", content=scored).json() == {"items": 1}
    assert waiting == [False] * 6


def test_what_is_no_number_in_a_form_is_told(site: Site) -> None:
    site.add_rankings(1)
    rank(site.script("labeler"))
    lead = site.browser("lead")
    form = {"name": "march", "records": "comparison"}
    for given in ("abc", "nan", "inf", "²"):
        page = lead.post("/lead/tea/snapshots", data=form | {"least_agreement": given})
        assert (page.status_code, "least agreement: give a number" in page.text) == (400, True)
    assert lead.post("/lead/tea/snapshots", data=form | {"least_agreement": "101"}).status_code == 400
    assert lead.post("/lead/tea/snapshots", data=form | {"least_agreement": "60"}).status_code == 303
    numbers = re.findall(r'name="([\w.]+)" type="number"[^>]* value="([^"]+)"', lead.get("/lead/tea/settings").text)
    page = lead.post("/lead/tea/settings", data=dict(numbers) | {"copies": "nan"})
    assert (page.status_code, "copies: give a number" in page.text) == (400, True)
    rows = {"file": ("a.jsonl", jsonl([{"prompt": "Why?"}]))}
    for wanted, status in (("²", 400), ("two", 400), ("0", 400), (" 2 ", 200), ("", 200)):
        page = lead.post("/lead/tea/import", data={"do": "preview", "wanted": wanted}, files=rows)
        assert page.status_code == status, wanted


def test_a_malformed_row_is_named_and_nothing_is_stored(site: Site) -> None:
    lead = site.browser("lead")
    rows = jsonl([{"prompt": "Good."}, {"prompt": 7}])
    page = lead.post("/lead/tea/import", data={"do": "preview"}, files={"file": ("march.jsonl", rows)})
    assert page.status_code == 400
    assert "march.jsonl:2: field" in page.text
    assert "No item is like that" in lead.get("/lead/tea/items").text


def test_texts_are_as_long_as_allowed_and_a_file_as_large(site: Site) -> None:
    long = jsonl([{"prompt": "x" * 500_001}])
    page = site.browser("lead").post("/lead/tea/import", data={"do": "preview"}, files={"file": ("a.jsonl", long)})
    assert (page.status_code, "at most 500,000" in page.text) == (400, True)
    site.app.user_middleware[0].kwargs["upload_mb"] = 0.001
    site.app.middleware_stack = None
    page = site.browser("lead").post("/lead/tea/import", data={"do": "preview"}, files={"file": ("a.jsonl", long)})
    assert page.status_code == 413


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


def test_sampling_explains_itself_without_torch(site: Site, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("heedful.web.sampling.find_spec", lambda name: None)
    page = site.browser("lead").get("/lead/tea/sampling").text
    assert "this server is installed without torch" in page
    assert "disabled>Start sampling" in page
    answer = site.browser("lead").post("/lead/tea/sampling", data={"model": "runs/sft"})
    assert (answer.status_code, "without torch" in answer.text) == (400, True)


def test_deleting_a_person_asks_for_the_name_and_names_the_snapshots(site: Site) -> None:
    site.add_rankings(1)
    rank(site.script("labeler"))
    lead, person = site.browser("lead"), site.ids["labeler"]
    assert lead.post("/lead/tea/snapshots", data={"name": "march", "records": "comparison"}).status_code == 303
    assert "Nothing was deleted" in lead.post(f"/lead/tea/people/{person}/delete", data={"name": "Labeler"}).text
    page = lead.post(f"/lead/tea/people/{person}/delete", data={"name": "labeler"}).text
    assert "snapshots/tea/march" in page
    assert site.browser().post("/login", data={"name": "labeler", "password": QUIET}).status_code == 401
    assert "delete" in lead.get("/lead/tea/log").text


def test_wrong_passwords_have_to_wait(site: Site) -> None:
    anybody = site.browser()
    codes = [anybody.post("/login", data={"name": "lead", "password": f"wrong {i}"}).status_code for i in range(10)]
    assert codes == [401] * 8 + [429] * 2
    assert int(anybody.post("/login", data={"name": "lead", "password": "wrong"}).headers["retry-after"]) >= 1


def test_figures_forget_a_deleted_person_at_once(site: Site) -> None:
    site.add_rankings(1, wanted=2)
    for name in ("labeler", "lead"):
        rank(site.script(name))
    reader = site.browser("reader")
    assert "2 comparisons of answers" in reader.get("/lead/tea/quality").text
    site.browser("lead").post(f"/lead/tea/people/{site.ids['labeler']}/delete", data={"name": "labeler"})
    page = reader.get("/lead/tea/quality").text
    assert "1 comparison of answers" in page
    assert ">labeler<" not in page


def test_a_snapshot_says_how_many_judgements_are_held_back(site: Site) -> None:
    ref, _ = site.add_rankings(2)
    for _ in range(2):
        rank(site.script("labeler"))
    lead = site.browser("lead")
    form = {"records": "comparison"}
    lead.post("/lead/tea/snapshots", data=form | {"name": "march"})
    assert "held back" not in lead.get("/lead/tea/snapshots").text
    with site.store.writing() as db:
        items.hold(db, site.project_id, ref, "withdrawn", site.now, by=None)
    lead.post("/lead/tea/snapshots", data=form | {"name": "april"})
    assert lead.get("/lead/tea/snapshots").text.count("1 held back") == 1


def test_of_a_redacted_item_what_happened_is_shown(site: Site) -> None:
    (ref,) = site.add_rankings(1)
    rank(site.script("labeler"))
    lead = site.browser("lead")
    sent = lead.post(f"/lead/tea/items/{ref}", data={"do": "redact", "why": "names a person"})
    page = lead.get(sent.headers["location"])
    assert page.status_code == 200
    assert "The texts were taken out" in page.text
    assert "judged it" in page.text
    assert "Answer 0.2" not in page.text
    assert "Take all texts out" not in page.text


def test_agreement_is_measured_on_the_work_and_not_on_known_answers(site: Site) -> None:
    """On gold items, which everybody gets, all agree; on the doubled one the two are of opposite opinions."""
    site.settle(gold_share=1.0, show_agreement=True)
    site.add_rankings(3, K=2, purpose="gold", gold=[{"ranking": [[0], [1]]}] * 3)
    (doubled,) = site.add_rankings(1, K=2, wanted=2)
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
    for name, tiers in (("Everybody", "1 = 2"), ("brief", "1</span><span>2"), ("long", "2</span><span>1")):
        assert f'<bdi>{name}</bdi>: <span class="tiers"><span>{tiers}</span></span>' in page
