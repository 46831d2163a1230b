"""What tells people where they are: times with their zone, what is left, tabs, and names that follow from titles."""

from __future__ import annotations

import re

import pytest

from heedful.feedback import assignment, people, projects
from heedful.feedback.schema import Membership
from web.site import Site, rank

TEA = "/api/projects/tea"
TIME = re.compile(r'<time datetime="([^"]+)" data-as="(minute|day|long|long-minute|clock)">([^<]+)</time>')


@pytest.mark.medium
def test_times_come_in_utc_for_the_browser_to_convert(site: Site) -> None:
    site.settle(rate_first=False)
    (ref,) = site.add_rankings(1)
    event = rank(site.script("labeler"))["event"]
    lead, labeler = site.browser("lead"), site.browser("labeler")
    for client, path, form, text in (
        (lead, f"/lead/tea/items/{ref}", "minute", "2 Mar 2026, 09:00 UTC"),
        (lead, "/lead/tea/log", "minute", "2 Mar 2026, 09:00 UTC"),
        (labeler, f"/work/tea/history/{event}", "long-minute", "2 March 2026, 09:00 UTC"),
        (labeler, "/work/tea/history", "clock", "09:00 UTC"),
        (labeler, "/work/tea/progress", "clock", "00:00 UTC"),
        (labeler, "/work/tea/guide", "long", "2 March 2026"),
    ):
        page = client.get(path).text
        day = "2026-03-02T00:00:00+00:00" if text.startswith("00") else "2026-03-02T09:00:00+00:00"
        assert (day, form, text) in TIME.findall(page), path
        assert page.count("<time") == len(TIME.findall(page)), path  # none is left to a guess
        assert "js/times.js" in page


def left(site: Site, name: str) -> dict[str, int]:
    with site.store.reading() as db:
        member = db.get_one(Membership, (site.project_id, site.ids[name]))
        return {**assignment.waiting(db, member, projects.settings(db, site.project_id), site.now, most=5)}


def bar(page: str) -> tuple[list[str], str]:
    """The kinds of work in the bar, and what it says of today."""
    kinds = re.findall(r'href="/work/tea/(ranking|demonstration|choice|prompt)"', page[: page.index("data-today")])
    found = re.search(r"data-today>([^<]*)<", page)
    assert found is not None
    return kinds, found[1]


@pytest.mark.medium
def test_labelers_see_what_is_left_and_no_empty_kind_of_work(site: Site) -> None:
    site.settle(rate_first=False)
    site.add_rankings(3)
    site.add_prompts(1, purpose="evaluate")
    assert left(site, "labeler") == {"demonstration": 1, "ranking": 3, "choice": 0, "prompt": 0}
    assert left(site, "held_out") == {"demonstration": 1, "ranking": 0, "choice": 0, "prompt": 0}
    labeler, held_out = site.browser("labeler"), site.browser("held_out")
    assert bar(labeler.get("/work/tea/ranking").text) == (["ranking", "demonstration"], "0 today · 3 left")
    assert bar(labeler.get("/work/tea/history").text) == (["ranking", "demonstration"], "0 today")
    assert bar(held_out.get("/work/tea/demonstration").text) == (["demonstration"], "0 today · 1 left")
    # the labeler holds a ranking, which is still theirs to do and not free for others
    assert left(site, "lead") == {"demonstration": 0, "ranking": 2, "choice": 0, "prompt": 0}
    rank(site.script("labeler"))
    assert bar(labeler.get("/work/tea/ranking").text)[1] == "1 today · 2 left"
    assert bar(labeler.get("/work/tea/choice").text)[0] == ["ranking", "choice"]  # the page that is open has its tab
    site.settle(show_progress=False)
    assert bar(labeler.get("/work/tea/ranking").text)[1] == ""
    site.add_rankings(9, K=2)
    assert left(site, "labeler")["ranking"] == 5  # it counts no further


@pytest.mark.medium
def test_what_is_left_of_screening(site: Site) -> None:
    site.add_rankings(2)
    known = [{"ranking": [[0], [1]]}] * 2
    site.add_rankings(2, K=2, purpose="screening", gold=known)
    with site.store.writing() as db:
        db.get_one(Membership, (site.project_id, site.ids["labeler"])).phase = "screening"
    assert left(site, "labeler")["ranking"] == 2
    site.settle(rate_first=False)
    rank(site.script("labeler"))
    assert left(site, "labeler")["ranking"] == 1
    rank(site.script("labeler"))
    assert left(site, "labeler")["ranking"] == 0


@pytest.mark.medium
@pytest.mark.parametrize("tab", ["", "/work", "/rubric", "/assignment", "/labelers", "/screening", "/alerts"])
def test_settings_have_tabs(site: Site, tab: str) -> None:
    page = site.browser("lead").get(f"/lead/tea/settings{tab}").text
    assert page.count(f'href="/lead/tea/settings{tab}" aria-current="page"') == (2 if tab == "" else 1)
    assert page.count('action="/api/projects/tea" data-api="PATCH"') == (2 if tab == "" else 1)  # and to archive it
    names = set(re.findall(r'name="settings\.([a-z_]+)', page))
    others = {"": set(), "/assignment": {"policy", "double_share"}, "/alerts": {"alerts"}, "/screening": {"screening"}}
    assert names >= others.get(tab, set())
    assert ("alerts" in names) == (tab == "/alerts")


@pytest.mark.medium
def test_every_setting_has_a_place(site: Site) -> None:
    lead, found = site.browser("lead"), set()
    for tab in ("/work", "/rubric", "/assignment", "/labelers", "/screening", "/alerts"):
        found |= set(re.findall(r'name="settings\.([a-z_]+)', lead.get(f"/lead/tea/settings{tab}").text))
    assert found == set(projects.ProjectSettings.model_fields)
    assert lead.get("/lead/tea/settings/nowhere").status_code == 404


@pytest.mark.medium
def test_a_short_name_follows_from_the_title(site: Site) -> None:
    admin = site.browser("admin")
    for title, name in (
        ("Tee & Gärten, Größe XL", "tee-gaerten-groesse-xl"),
        ("Tee & Gärten, Größe XL ", "tee-gaerten-groesse-xl-2"),
        ("茶", "project"),
        ("Łódź", "lodz"),
        ("x" * 80, "x" * 50),
    ):
        assert admin.post("/api/projects", json={"title": title}).json()["name"] == name
    assert admin.post("/api/projects", json={"title": "Own", "name": "mine"}).json()["name"] == "mine"
    assert admin.post("/api/projects", json={"title": "  "}).status_code == 400
    assert 'data-name-of="title"' in admin.get("/projects").text
    with site.store.reading() as db:
        assert people.membership(db, site.project_id, site.ids["admin"]) is None
