"""A model as a labeler: through the real API, against a scripted endpoint. It never counts as a person."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from endpoints.scripted import Reply, error, said, serving
from heedful import cli
from heedful.config import UserError
from heedful.configs.labeler import LabelerConfig
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.endpoints import labeler
from heedful.feedback import derive, lineage, models, people, snapshots
from heedful.feedback.schema import Item
from heedful.feedback.snapshots import Filters
from web.site import HOST, START, Site, rank


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path)
    monkeypatch.setattr(
        labeler, "connect", lambda server, headers: TestClient(made.app, base_url=server, headers=headers)
    )
    yield made
    made.store.close()


def account(site: Site, monkeypatch: pytest.MonkeyPatch, name: str = "Judge", model: str = "tiny") -> dict[str, Any]:
    """Add a model as a lead does, and put its token where the command looks."""
    made = site.script("lead").post("/api/projects/tea/models", json={"name": name, "model": model})
    assert made.status_code == 201, made.text
    monkeypatch.setenv(labeler.TOKEN, made.json()["token"])
    found: dict[str, Any] = made.json()
    return found


def shown(body: dict[str, Any]) -> dict[str, str]:
    """The answers of a request by letter."""
    return dict(re.findall(r"<Answer (\w)>\n(.*?)\n</Answer", body["messages"][1]["content"], re.DOTALL))


def judge(number: int, body: dict[str, Any]) -> Reply:
    """Answers in the order of their texts, the later the better, each with quality 3 and a flag."""
    order = sorted(shown(body), key=lambda letter: shown(body)[letter], reverse=True)
    ratings = {letter: {"overall": 3, "flags": ["opinion"], "satisfies_constraint": None} for letter in order}
    return said(f"Here it is: {json.dumps({'ratings': ratings, 'ranking': [[one] for one in order]})}")


def config(endpoint: Any, **more: Any) -> LabelerConfig:
    return LabelerConfig(endpoint=endpoint.ref, server=HOST, project="tea", **more)


def items(site: Site) -> list[tuple[int, bool, str, str]]:
    with site.store.reading() as db:
        return [(one.taken, one.open, one.had_by, one.flags) for one in db.query(Item).order_by(Item.id)]


@pytest.mark.medium
def test_a_model_judges_and_nothing_changes_for_people(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_rankings(3)
    before = items(site)
    account(site, monkeypatch)
    with serving(judge) as endpoint:
        found = labeler.run(config(endpoint))
    assert found == {
        "account": "Judge (model)", "judged": 3, "skipped": 0, "requests": 6, "turned_with_the_order": 0.0, "pairs": 9,
    }  # fmt: skip
    assert items(site) == before
    with site.store.writing() as db:
        assert derive.rebuild(db, site.project_id) == 0
        assert sum(one.left for one in derive.forecast(db, site.project_id, START).values()) == 3
        assert derive.forecast(db, site.project_id, START)["ranking"].per_day == 0
    reader = site.script("reader")
    assert reader.get("/api/projects/tea/progress").json()["judgements"] == 0
    assert reader.get("/api/projects/tea/agreement").json()["judgements"] == 0
    for _ in range(3):  # people get all of them
        rank(site.script("labeler"))
    system = endpoint.requests[0]["messages"][0]["content"]
    assert "<guide>" in system
    assert "Helpful first, then truthful and harmless" in system
    assert "1 = very poor" in system
    one, other = (list(shown(body).values()) for body in endpoint.requests[:2])
    assert one == other[::-1]


@pytest.mark.medium
def test_its_judgements_are_marked_in_pages_snapshots_and_lineage(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ref, *_) = site.add_rankings(2)
    made = account(site, monkeypatch, model="org/tiny")
    with serving(judge) as endpoint, pytest.raises(UserError, match="the account is for org/tiny, and --endpoint asks"):
        labeler.run(config(endpoint))
    with serving(judge) as endpoint:
        labeler.run(LabelerConfig(endpoint=f"{endpoint.url}/v1#org/tiny", server=HOST, project="tea"))
    lead = site.browser("lead")
    for page in ("people", f"people/{made['id']}", f"items/{ref}"):
        assert "Judge (model)" in lead.get(f"/lead/tea/{page}").text
    assert "Model <bdi>org/tiny</bdi>" in lead.get(f"/lead/tea/people/{made['id']}").text

    def freeze(name: str, **filters: Any) -> Any:
        chosen = Filters(records="comparison", **filters)
        return snapshots.freeze(site.store, site.project_id, tmp_path / name, chosen, START, by=None)

    with pytest.raises(UserError, match=r"Judge \(model\): people judged none of the same answers"):
        freeze("early", made_by="models")
    rank(site.script("labeler"))
    assert [row.labeler for row in formats.read(freeze("people").path, Comparison)] == ["labeler"]
    both = freeze("both", made_by="both", model_weight=0.25)
    rows = formats.read(both.path, Comparison)
    told = [(row.labeler, row.labeler_model, row.weight) for row in rows]
    assert sorted(told) == [("Judge (model)", "org/tiny", 0.25)] * 2 + [("labeler", None, None)]
    assert both.filters["agreement"]["Judge (model)"].startswith("Judge (model) and people prefer the same answer in")
    assert len(formats.read(freeze("models", made_by="models").path, Comparison)) == 2
    with site.store.reading() as db:
        where = lineage._judgements(db, [both.id])
        assert sorted((one.labeler, one.model) for one in where)[0] == ("Judge (model)", "org/tiny")
    called = CliRunner().invoke(cli.app, [
        "snapshot", "--db", str(tmp_path / "heedful.db"), "--project", "tea", "--records", "comparison", "--made-by",
        "both", "--out", str(tmp_path / "printed"),
    ])  # fmt: skip
    assert "and people prefer the same answer in" in called.output, called.output


@pytest.mark.medium
def test_agreement_with_people_by_hand(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model prefers 2 > 1 > 0. People say 2 > 0 > 1 on one item, and tie all answers of the other."""
    site.add_rankings(2)
    account(site, monkeypatch)
    client = site.script("labeler")
    for ranking in ([["2"], ["0"], ["1"]], [["0", "1", "2"]]):
        task = client.post("/api/projects/tea/next").json()["task"]
        place = {text[-1]: i for i, text in enumerate(task["completions"])}
        answer = {"ranking": [[place[k] for k in tier] for tier in ranking], "ratings": [{"overall": 4}] * 3}
        body = {"answer": answer, "idempotency_key": f"key-{task['lease']}"}
        assert client.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body).status_code == 200
    with serving(judge) as endpoint:
        labeler.run(config(endpoint))
    (found,) = site.script("lead").get("/api/projects/tea/models").json()
    assert (found["rate"], found["cases"], found["items"], found["ties"]) == (pytest.approx(2 / 3), 3, 1, 3)
    with site.store.reading() as db:
        assert models.agreement(db, site.project_id)[0].line() == found["text"]


def test_what_turns_with_the_order_is_a_tie() -> None:
    settings = {"rate_first": True, "rubric": {"flags": ["opinion", "satisfies_constraint"], "own_flags": [],
                                               "qualities": ["1", "2", "3", "4", "5", "6", "7"]}}  # fmt: skip

    def reply(ranking: list[list[str]], *ratings: tuple[int, list[str], bool | None]) -> str:
        rated = {
            letter: {"overall": overall, "flags": flags, "satisfies_constraint": kept}
            for letter, (overall, flags, kept) in zip("AB", ratings, strict=True)
        }
        return json.dumps({"ranking": ranking, "ratings": rated, "none_acceptable": True})

    first = labeler.read(reply([["A"], ["B"]], (5, ["opinion"], True), (2, [], True)), "ranking", [0, 1], settings)
    second = labeler.read(
        reply([["A"], ["B"]], (4, ["opinion"], False), (2, ["opinion"], True)), "ranking", [1, 0], settings
    )
    assert first is not None
    assert second is not None
    assert labeler.merged("ranking", first, second) == {
        "ranking": [[0, 1]], "none_acceptable": True,
        "ratings": [
            {"overall": 4, "opinion": True, "satisfies_constraint": True}, {"overall": 3, "opinion": False},
        ],
    }  # fmt: skip
    a, b = ({"tiers": tiers, "none_acceptable": False, "ratings": None} for tiers in ([0, 1, 2], [0, 2, 1]))
    assert labeler.merged("ranking", a, b) == {"ranking": [[0], [1, 2]]}
    assert labeler.merged("choice", a | {"tiers": [1, 0]}, b | {"tiers": [0, 0]}) == {"preferred": "b"}


@pytest.mark.parametrize(
    "text",
    ["no", "{", '{"ranking": [["A"]]}', '{"ranking": [["A"], ["A"]]}', '{"ranking": "A"}', "[1]",
     '{"ranking": [["A"], ["B"]]}', '{"ranking": ["A", "B"], "ratings": {"A": {"overall": 8}, "B": {"overall": 1}}}',
     '{"ranking": [["A"], ["B"]], "ratings": {"A": {"overall": true}, "B": 3}}'],
)  # fmt: skip
def test_a_reply_that_is_no_judgement_is_none(text: str) -> None:
    rubric = {"flags": [], "own_flags": [], "qualities": ["x"] * 7}
    assert labeler.read(text, "ranking", [0, 1], {"rate_first": True, "rubric": rubric}) is None


@pytest.mark.medium
def test_what_it_cannot_judge_is_skipped_and_left_to_people(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_rankings(2)
    before = items(site)
    account(site, monkeypatch)

    def sometimes(number: int, body: dict[str, Any]) -> Reply:
        return error(400, "too long") if "Question 0" in body["messages"][1]["content"] else said("I like both")

    with serving(sometimes) as endpoint:
        found = labeler.run(config(endpoint))
        assert (found["judged"], found["skipped"], found["turned_with_the_order"]) == (0, 2, None)
        assert labeler.run(config(endpoint))["skipped"] == 0  # it does not get them again
    assert items(site) == before


@pytest.mark.medium
def test_limit_max_tokens_and_asking_are_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add_rankings(3)
    account(site, monkeypatch)
    with serving(judge) as endpoint:
        assert labeler.run(config(endpoint, limit=1, max_tokens=77, asking={"cache": False}))["judged"] == 1
    assert [body["max_tokens"] for body in endpoint.requests] == [77, 77]


@pytest.mark.medium
def test_a_token_of_a_person_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.store.writing() as db:
        token = people.new_token(db, site.ids["labeler"], "api", START, name="mine")[1]
    with serving(judge) as endpoint:
        with pytest.raises(UserError, match="HEEDFUL_TOKEN: is not set"):
            labeler.run(config(endpoint))
        monkeypatch.setenv(labeler.TOKEN, token)
        with pytest.raises(UserError, match=r"labeler: the token is a person's\. A model never works in"):
            labeler.run(config(endpoint))
        monkeypatch.setenv(labeler.TOKEN, "wrong")
        with pytest.raises(UserError, match="does not know the token"):
            labeler.run(config(endpoint))
    assert endpoint.requests == []


@pytest.mark.medium
def test_the_account_of_a_model_is_no_persons(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made, lead = account(site, monkeypatch), site.script("lead")
    where = f"/api/projects/tea/people/{made['id']}"
    for change in ({"role": "held_out"}, {"role": "lead"}, {"phase": "screening"}):
        refused = lead.patch(where, json=change)
        assert refused.status_code == 400
        assert "is the account of a model" in refused.text
    assert lead.patch(where, json={"paused": True}).status_code == 200
    assert lead.post(f"{where}/password-link").status_code == 400
    assert lead.post("/api/projects/tea/models", json={"name": "judge (model)", "model": "x"}).status_code == 400
    with site.store.writing() as db:
        for name in ("Ann (model)", "Ann (MODEL)", "Ann (mode1)", "Ann （model）"):
            with pytest.raises(UserError, match="marks the accounts of models"):
                people.add_person(db, name, None, START)


def test_settings_of_a_snapshot_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="models judge comparisons and choices, not demonstration"):
        Filters(records="demonstration", made_by="both")
    with pytest.raises(ValueError, match="Set made_by too"):
        Filters(records="comparison", model_weight=0.5)
