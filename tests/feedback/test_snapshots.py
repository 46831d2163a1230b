"""From judgements to frozen files: what is in them, what is left out, and that training reads them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Answer, Choice, Comparison, Demonstration, Prompt
from heedful.data.snapshots import open_snapshot
from heedful.evaluation.models import parse
from heedful.evaluation.people import by_people
from heedful.evaluation.summary import between
from heedful.feedback import events, items, people, projects, snapshots, work
from heedful.feedback.judgements import Versus
from heedful.feedback.schema import Event, FrozenSnapshot, SnapshotEvent
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store

from .team import Team


def records(team: Team, kind: str = "comparison", **filters: Any) -> list[Any]:
    with team.store.reading() as db:
        return [
            record
            for _, record in snapshots.records(db, team.project, Filters(records=kind, **filters))  # type: ignore[arg-type]
        ]


def freeze(team: Team, path: Path, kind: str = "comparison", **filters: Any) -> FrozenSnapshot:
    chosen = Filters(records=kind, **filters)  # type: ignore[arg-type]
    return snapshots.freeze(team.store, team.project, path, chosen, team.now, by=None)


def test_a_ranking_becomes_a_comparison(store: Store, tmp_path: Path) -> None:
    team = Team(store, rate_first=True)
    team.join("ada", group="north")
    with store.writing() as db:
        projects.write_instruction(db, team.project, "guide", "Be kind.", team.now, by=None)
    (ref,) = team.rankings(1, K=4)
    task = team.task("ada")
    ratings = [{"overall": 7 - place, "opinion": place == 3} for place in range(4)]
    answer = {"ranking": [[1], [0, 2], [3]], "none_acceptable": True, "ratings": ratings, "note": "hard"}
    event = team.submit("ada", task, answer, seconds=12.5).event
    frozen = freeze(team, tmp_path / "s")
    (record,) = formats.read(frozen.path, Comparison)
    at = dict(enumerate(task.order))
    assert record.ranking == [[at[1]], sorted([at[0], at[2]]), [at[3]]]
    assert [record.completions[index] for index in record.order or []] == list(task.completions)
    assert record.models == ["m0", "m1", "m2", "m3"]
    assert (record.labeler, record.group, record.none_acceptable) == ("ada", "north", True)
    assert record.ratings is not None
    assert [(record.ratings[at[place]].overall, record.ratings[at[place]].opinion) for place in range(4)] == [
        (7, False), (6, False), (5, False), (4, True),
    ]  # fmt: skip
    ((hash_,),) = team.rows(Event.hash, where=Event.id == event)
    extras = {"judgement": hash_, "item": ref, "seconds": 12.5, "instructions": 1, "note": "hard"}
    assert record.model_extra == {**extras, "judged": "2026-03-02T09:00:00+00:00"}


@pytest.mark.medium
def test_undone_replaced_and_redacted_judgements_are_left_out(store: Store) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(4)
    team.submit("ada", team.task("ada"), {"ranking": [[0, 1, 2]]})
    back = team.undo("ada")
    team.submit("ada", back, {"ranking": [[0, 1], [2]]})
    team.work("ada")
    team.undo("ada")
    redacted = team.work("ada", 2)[1]
    with store.writing() as db:
        events.redact(db, team.project, redacted.event, "hers", team.now, by=team.ids["bob"])
    assert [len(record.ranking) for record in records(team)] == [2, 3]


def test_gold_attention_and_screening_items_are_left_out_unless_named(store: Store) -> None:
    team = Team(store, "ada", gold_share=1.0)
    gold = team.gold_rankings(2)
    team.rankings(1)
    team.work("ada", 3)
    assert [record.prompt for record in records(team)] == ["Q0?"]
    assert {record.model_extra["item"] for record in records(team, purposes=("gold",))} == set(gold)


@pytest.mark.medium
def test_held_items_are_in_no_snapshot_and_counted(store: Store, tmp_path: Path) -> None:
    team = Team(store, "ada", "bob")
    team.rankings(2, wanted=2)
    team.work("ada", 2)
    marked = team.submit("bob", team.task("bob")).ref
    team.undo("bob")
    task = team.task("bob")
    with store.writing() as db:
        work.mark_personal(db, team.ids["bob"], task.lease, True, team.now)
    frozen = freeze(team, tmp_path / "s")
    assert (frozen.rows, frozen.filters["left_out"]) == (1, {"held": 1})
    assert open_snapshot(frozen.path).filters["left_out"] == {"held": 1}
    with store.writing() as db:
        (logged, _), *_ = people.audit_log(db, team.project, limit=1)
        assert logged.detail["held"] == 1
        (other,) = {record.item for record in formats.read(frozen.path, Comparison)}  # type: ignore[attr-defined]
        items.change(db, team.project, other, team.now, by=None, held="withdrawn")
    with pytest.raises(UserError, match=r"nothing to freeze\. All items that pass are on hold"):
        freeze(team, tmp_path / "none")
    with store.writing() as db:
        items.change(db, team.project, marked, team.now, by=None, held="")  # a lead has looked
    released = freeze(team, tmp_path / "t")
    assert (released.rows, released.filters["left_out"]) == (1, {"held": 1})
    assert [record.item for record in formats.read(released.path, Comparison)] == [marked]  # type: ignore[attr-defined]


def test_held_out_labelers_work_is_a_file_of_its_own(store: Store) -> None:
    team = Team(store, "ada")
    team.join("eve", "held_out")
    team.rankings(1)
    team.rankings(2, start=10, purpose="evaluate")
    team.work("eve")
    team.work("ada", 2)
    assert {record.labeler for record in records(team)} == {"ada"}
    held_out = records(team, roles=("held_out",), purposes=("evaluate",))
    assert [(record.labeler, record.role) for record in held_out] == [("eve", "held_out")]
    assert [record.model_extra.get("role") for record in records(team)] == [None]


def test_every_filter_chooses(store: Store) -> None:
    team = Team(store)
    for name, group in (("ada", "north"), ("bob", "south")):
        team.join(name, group=group)
    team.rankings(1, source="web")
    team.work("ada")
    team.wait(days=1)
    noon = team.now
    team.rankings(1, start=5, source="api")
    team.work("bob")

    def labelers(**filters: Any) -> list[str]:
        return [record.labeler for record in records(team, **filters)]

    assert labelers() == ["ada", "bob"]
    assert labelers(labelers=("bob",)) == ["bob"]
    assert labelers(groups=("north",)) == ["ada"]
    assert labelers(sources=("api", "else")) == ["bob"]
    assert labelers(since=noon) == ["bob"]
    assert labelers(until=noon) == ["ada"]
    assert labelers(since=noon.replace(tzinfo=None), until=noon + timedelta(seconds=1)) == ["bob"]
    assert labelers(least_judgements=2) == []
    assert labelers(roles=("lead",)) == []


@pytest.mark.medium
def test_items_on_which_labelers_disagree_can_be_left_out(store: Store) -> None:
    """Of three pairs, ada and bob order two alike on the first item, all on the second; the third has one judgement."""
    team = Team(store, "ada", "bob", double_share=0.0)
    refs = team.rankings(3)
    with store.writing() as db:
        items.change(db, team.project, refs[:2], team.now, by=None, wanted=2)
    rankings = {refs[0]: {"ada": [[0], [1], [2]], "bob": [[1], [0], [2]]}}
    for name in ("ada", "bob"):
        while not hasattr(found := team.next(name), "why"):
            order = found.order
            indices = rankings.get(found.ref, {}).get(name, [[0], [1], [2]])
            team.submit(name, found, {"ranking": [[order.index(index) for index in tier] for tier in indices]})
    assert len(records(team)) == 5
    assert len(records(team, least_agreement=0.6)) == 5
    assert {record.model_extra["item"] for record in records(team, least_agreement=0.7)} == set(refs[1:])
    assert {record.model_extra["item"] for record in records(team, least_judgements=2)} == set(refs[:2])
    # one labeler's half of the items both judged: the other's judgement still counts for agreement
    assert len(records(team, least_agreement=0.7, labelers=("ada",))) in (1, 2)


def test_agreement_leaves_ties_out() -> None:
    assert snapshots.agreement([((0,), (1,), (2,)), ((0, 1), (2,))]) == 1.0  # 0-2 and 1-2; 0-1 is a tie of one
    assert snapshots.agreement([((0,), (1,)), ((1,), (0,)), ((0,), (1,))]) == pytest.approx(1 / 3)
    assert snapshots.agreement([((0, 1),), ((0,), (1,))]) is None


def test_choices_become_the_file_that_evaluate_reads(store: Store, tmp_path: Path) -> None:
    team = Team(store, "ada")
    sides = [("runs/ppo", "runs/sft"), ("runs/sft", "runs/ppo"), ("runs/ppo", "runs/sft")]
    rows = [
        Versus(prompt=f"Q{i}?", a=Answer(text=f"{i} of {a}", model=a), b=Answer(text=f"{i} of {b}", model=b))
        for i, (a, b) in enumerate(sides)
    ]
    team.add("choice", rows, "evaluate")
    for wanted in ("runs/ppo", "runs/ppo", None):
        task = team.task("ada")
        place = next((p for p, text in enumerate(task.completions) if wanted and text.endswith(wanted)), None)
        team.submit("ada", task, {"preferred": "tie" if place is None else "ab"[place]})
    frozen = freeze(team, tmp_path / "s", "choice", purposes=("evaluate",))
    found = by_people(frozen.path, parse(["ppo=runs/ppo", "sft=runs/sft"], "sft"))
    verdicts = between(found.verdicts, "ppo", "sft")
    assert sorted(verdict.outcome for verdict in verdicts) == [0.5, 1.0, 1.0]
    assert {verdict.labeler for verdict in verdicts} == {"ada"}
    assert found.facts["other_rows"] == 0
    assert len(formats.read(frozen.path, Choice)) == 3


def test_demonstrations_and_prompts(store: Store, tmp_path: Path) -> None:
    team = Team(store, "ada")
    team.add("demonstration", [Prompt(prompt="Write.", use_case="generation")], source="api")
    team.submit("ada", team.task("ada"), {"completion": "Written."})
    with store.writing() as db:
        items.ask_for_prompts(db, team.project, "few_shot", 1, team.now, by=None, use_case="rewrite")
    answer = {"prompt": "Be polite.", "shots": [{"query": "Go", "response": "Please go."}], "query": "Stop"}
    team.submit("ada", team.task("ada", kind="prompt"), answer)
    (demonstration,) = formats.read(freeze(team, tmp_path / "d", "demonstration").path, Demonstration)
    assert (demonstration.completion, demonstration.labeler, demonstration.use_case) == (
        "Written.",
        "ada",
        "generation",
    )
    (prompt,) = formats.read(freeze(team, tmp_path / "p", "prompt").path, Prompt)
    assert prompt.prompt == "Be polite.\n\nQuery: Go\nResponse: Please go.\n\nQuery: Stop\nResponse:"
    assert (prompt.user, prompt.source, prompt.use_case) == ("ada", "labeler", "rewrite")
    assert prompt.model_extra is not None
    assert prompt.model_extra["shots"] == [{"query": "Go", "response": "Please go."}]


def test_a_snapshot_is_remembered_with_its_events(store: Store, tmp_path: Path) -> None:
    team = Team(store, "ada")
    team.rankings(3)
    done = team.work("ada", 2)
    frozen = freeze(team, tmp_path / "a" / "one", labelers=("ada",))
    assert (frozen.rows, frozen.records) == (2, "comparison")
    assert frozen.sha256 == formats.fingerprint(frozen.path)["sha256"]
    assert formats.read_manifest(Path(frozen.path))["filters"] == {
        "project": "tea", "records": "comparison", "labelers": ["ada"],
    }  # fmt: skip
    assert [row.event_id for row in team.rows(SnapshotEvent.event_id)] == [one.event for one in done]
    assert freeze(team, tmp_path / "a" / "one", labelers=("ada",)).id == frozen.id
    team.work("ada")
    with pytest.raises(UserError, match="holds another snapshot"):
        freeze(team, tmp_path / "a" / "one", labelers=("ada",))
    second = freeze(team, tmp_path / "two")
    with store.reading() as db:
        assert [each.id for each in snapshots.listing(db, team.project)] == [second.id, frozen.id]


def test_nothing_to_freeze_is_said(store: Store, tmp_path: Path) -> None:
    team = Team(store, "ada")
    with pytest.raises(UserError, match="nothing to freeze, because no row passes the filters"):
        freeze(team, tmp_path / "s")
    assert not (tmp_path / "s").exists()
