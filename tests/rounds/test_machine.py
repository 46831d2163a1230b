"""Which prompts a round takes, what it waits for, what can be skipped, and who puts a model in place."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from collection.served import START as SENT
from heedful.cli import main
from heedful.collection import forget, round_files
from heedful.collection import store as collected
from heedful.collection.settings import CollectionConfig
from heedful.collection.store import Collection
from heedful.config import Config, UserError
from heedful.data import formats
from heedful.data.records import Completions, Prompt
from heedful.feedback import final, lineage, people, projects
from heedful.feedback.collected import Decision, Exchange, Origin, ServedUser
from heedful.feedback.schema import Item, Person
from heedful.feedback.store import Store
from heedful.files import Lock, append_rows, read_json, rows_of
from heedful.rounds import choose, compare, machine, promotions, redo, state, status, train
from heedful.rounds import people as round_people
from heedful.rounds.gate import Difference, Evidence, GateVerdict
from heedful.rounds.state import STEPS, Round, Waiting
from heedful.runs import placed
from heedful.runs.manifest import Manifest
from rounds.place import NOW, Place


@pytest.fixture
def place(tmp_path: Path, sent: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder in which sampling and training are replaced: they write what the real ones write, at once."""

    def sampled(one: Round) -> dict[str, Any]:
        rows = [
            Completions.model_validate(prompt.row() | {"completions": ["one", "two"], "models": ["m", "m"]})
            for prompt in formats.read(str(one.path / choose.PROMPTS), Prompt)
        ]
        formats.write(one.path / train.RANKED, rows)
        return {"prompts": len(rows), "models": [promotions.serving(one.folder, one.plan)]}

    def trained(one: Round) -> dict[str, Any]:
        (one.place("ppo") / "model").mkdir(parents=True, exist_ok=True)
        Manifest.begin("ppo", Config(), {}, {}).write(one.place("ppo") / "manifest.json")
        return {"results": dict(ALARMS)}

    monkeypatch.setattr(train, "sample", sampled)
    monkeypatch.setattr(train, "reward", lambda one: {})
    monkeypatch.setattr(train, "ppo", trained)
    monkeypatch.setattr("heedful.rounds.report.write", lambda store, one: {})
    ALARMS.clear()
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    return Place(tmp_path, tmp_path, sent)


ALARMS: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        ({"sft": "/nowhere/sft"}, "sft: /nowhere/sft: no such model directory"),
        ({"serving": "./gone"}, "serving: ./gone: no such model directory"),
        ({"others": ["http://localhost:9/v1#m", "../gone"]}, "others: ../gone: no such model directory"),
        ({"demonstrations": "gone.jsonl"}, "demonstrations: gone.jsonl: no such file. Check the path."),
        ({"tax_data": "gone.jsonl"}, "tax_data: gone.jsonl: no such file. Check the path."),
    ],
)
def test_a_model_or_file_that_is_not_there_is_told_before_a_round_begins(
    place: Place, plan: dict[str, Any], line: str
) -> None:
    place.plan(**plan)
    with pytest.raises(UserError) as told:
        place.run()
    assert str(told.value) == f"{place.folder / 'round.toml'}: {line}"
    assert not (place.folder / "rounds" / "001").exists()


def until_labels(place: Place) -> None:
    with pytest.raises(Waiting, match="0 of 12 labels"):
        place.run()


@pytest.mark.medium
def test_only_curated_fresh_prompts_of_training_users_are_chosen(place: Place) -> None:
    with place.store.writing() as db:  # one prompt of each user
        db.execute(sa.update(Decision).where(Decision.exchange_id.like("x1-%")).values(drops=True))
    with place.store.reading() as db:
        users = {one.id: one.split for one in db.query(ServedUser)}
        dropped = db.query(Decision).filter(Decision.step == "use_case").order_by(Decision.exchange_id).all()
    training = sorted(f"user-{number}" for number, split in users.items() if split == "train")
    held_out = sorted(f"user-{number}" for number, split in users.items() if split == "held_out")
    assert len(training) >= 8
    assert len(held_out) >= 12
    place.plan(prompts=len(training))
    one = state.current(place.folder, place.db)
    with place.store.reading() as db:
        assert sorted(str(row.user) for row in choose.fresh(db, one)) == training
        assert {row.user for row in choose.for_gate(db, one)} <= set(held_out)
    first = next(one for one in dropped if users[one.user_id] == "train" and not one.drops)
    with place.store.writing() as db:  # curation leaves one out
        db.get_one(Decision, first.id).drops = True
    with place.store.reading() as db, pytest.raises(Waiting, match=f"{len(training) - 1} of {len(training)} fresh"):
        choose.fresh(db, one)
    with place.store.writing() as db:  # and a lead takes it in again
        db.get_one(Decision, first.id).reversed = NOW
    with place.store.reading() as db:
        chosen = choose.fresh(db, one)
        gate = choose.for_gate(db, one)
    one.path.mkdir(parents=True)
    formats.write(one.path / choose.PROMPTS, chosen)
    formats.write(one.path / choose.GATE, gate)
    two = Round(place.folder, 2, one.plan, 12, place.db)
    with place.store.reading() as db:
        with pytest.raises(Waiting, match=r"^0 of"):
            choose.fresh(db, two)
        left = len(held_out) - 12
        with pytest.raises(Waiting, match=f"^{left} of 12 prompts of held-out users, .* About {12 - left} more"):
            choose.for_gate(db, two)


def test_held_out_users_take_turns_and_few_of_them_are_not_enough(place: Place) -> None:
    with place.store.writing() as db:
        split = [one for one in db.query(ServedUser) if one.split == "held_out"]
        for one in split[10:]:
            one.split = "train"
    plan = state.plan_of(place.folder)
    asking = Round(place.folder, 1, plan, 15, place.db)
    with place.store.reading() as db:
        users = [row.user for row in choose.for_gate(db, asking)]
    assert sorted(users.count(user) for user in set(users)) == [1] * 5 + [2] * 5
    with place.store.writing() as db:
        db.get_one(ServedUser, split[0].id).split = "train"
    with place.store.reading() as db, pytest.raises(Waiting, match="9 of 10 held-out users, so the gate is undecided"):
        choose.for_gate(db, asking)


@pytest.mark.medium
def test_run_waits_with_exit_code_3_and_goes_on(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.plan(prompts=1000)
    with pytest.raises(SystemExit) as left:
        main(["round", "run", "--folder", str(place.folder)])
    told = capsys.readouterr()
    assert left.value.code == 3
    assert re.fullmatch(r"waiting: \d+ of 1,000 fresh prompts\n", told.out)
    shutil.rmtree(place.folder / "rounds")
    place.plan()
    until_labels(place)
    place.label(most=7)
    with pytest.raises(SystemExit) as left:
        main(["round", "run", "--folder", str(place.folder)])
    assert (left.value.code, capsys.readouterr().out) == (3, "waiting: 7 of 12 labels\n")
    kept = read_json(place.folder / "rounds/001/state.json")
    assert kept["steps"]["queue"]["status"] == "done"
    assert kept["steps"]["labels"] | {"when": ""} == {"status": "waiting", "when": "", "what": "7 of 12 labels"}
    with pytest.raises(SystemExit):
        main(["round", "status", "--folder", str(place.folder)])
    shown = capsys.readouterr().out
    assert "  queue     done\n  labels    waiting  7 of 12 labels\n  freeze\n" in shown
    with pytest.raises(SystemExit):
        main(["round", "status", "--folder", str(place.folder), "--json"])
    assert json.loads(capsys.readouterr().out)["rounds"][0]["round"] == 1
    with pytest.raises(SystemExit) as left:
        main(["round", "status", "--folder", str(place.folder), "--who", "lea"])
    assert (left.value.code, capsys.readouterr().err.startswith("--who: `heedful round status` does not")) == (2, True)


@pytest.mark.medium
def test_a_share_of_the_labels_is_enough_if_the_plan_says_so(place: Place) -> None:
    place.plan(labels=0.5)
    until_labels(place)
    place.label(most=5)
    with pytest.raises(Waiting, match="5 of 12 labels"):
        place.run()
    place.label()
    with place.store.writing() as db:
        db.execute(sa.update(Item).where(Item.source == "round-001").values(wanted=3))
    with pytest.raises(Waiting, match=r"12 of 36 labels\. Each item has one\. The others are second opinions"):
        place.run()
    with place.store.writing() as db:
        db.execute(sa.update(Item).where(Item.source == "round-001").values(wanted=1, taken=0))
        some = sa.select(Item.id).where(Item.source == "round-001").limit(6).scalar_subquery()
        db.execute(sa.update(Item).where(Item.id.in_(some)).values(taken=1))
    place.run(skip={"ppo": "not of interest"})
    assert state.read(place.folder, 1).facts("labels") == {"labels": 6, "wanted": 12}


@pytest.mark.medium
def test_steps_are_skipped_with_a_reason_and_what_hangs_on_them_too(place: Place) -> None:
    until_labels(place)
    place.label(most=3)
    for text, told in (("prompts=x", "has done it already"), ("nap=x", "no such step"), ("ppo= ", "give a reason")):
        step, _, reason = text.partition("=")
        with pytest.raises(UserError, match=told):
            place.run(skip={step: reason})
    one = place.run(skip={"labels": "three are enough", "ppo": "only the reward was wanted"})
    assert one.steps["labels"] | {"when": ""} == {"status": "skipped", "when": "", "reason": "three are enough"}
    assert one.facts("freeze")["rows"] == 3
    reasons = {step: told.get("reason") for step, told in one.steps.items() if told["status"] == "skipped"}
    assert reasons["compare"] == "ppo was skipped"
    assert reasons["gate"] == "there is no candidate"
    assert reasons["promote"] == "the gate says nothing"
    assert one.is_over
    assert state.current(place.folder, place.db).number == 2


@pytest.mark.medium
def test_an_alarm_of_the_training_spends_no_prompt_of_held_out_users(place: Place) -> None:
    ALARMS["signs"] = ["iteration 12: over-optimisation: KL 20 nats. Raise kl_coef", "iteration 1: no end: x"]
    until_labels(place)
    place.label()
    one = place.run()
    assert one.facts("gate")["outcome"] == "keep"
    assert one.facts("gate")["reasons"] == [ALARMS["signs"][0]]
    assert not (one.path / choose.GATE).exists()
    assert placed.read(place.folder) == {}


def test_alarms_by_hand(place: Place) -> None:
    one = state.current(place.folder, place.db)
    assert compare.alarms_of(one, {"kl": 9.0, "signs": ["iteration 1: no end: x"], "stopped": None}) == []
    assert compare.alarms_of(one, {"alarm": "gold falls", "stopped": "stopped: gold falls"}) == ["gold falls"]
    assert compare.alarms_of(one, {"stopped": "stopped: KL passed the ceiling"}) == ["stopped: KL passed the ceiling"]
    place.plan(gate={"kl": 8.5})
    (told,) = compare.alarms_of(state.current(place.folder, place.db), {"kl": 9.0})
    assert told == "distance: KL 9.00 nats an answer from the start. The bound is 8.5"


def test_a_round_keeps_its_plan(place: Place) -> None:
    place.plan(prompts=1000)
    with pytest.raises(Waiting, match="fresh prompts"):
        place.run()
    place.plan()
    with pytest.raises(Waiting, match="of 1,000 fresh prompts"):
        place.run()
    path = place.folder / "rounds/001"
    assert place.said[-1].endswith(f"the next one takes it. To begin this one again with the new plan, delete {path}")
    shutil.rmtree(path)
    until_labels(place)
    place.plan(prompts=3, gate={"prompts": 99})
    with pytest.raises(Waiting, match="0 of 12 labels"):
        place.run()
    assert place.said[-1].endswith(
        "round.toml has changed (prompts, gate). Round 1 keeps its plan, the next one takes it"
    )
    assert state.read(place.folder, 1).gate_prompts == 12


def change(place: Place, old: str, new: str) -> None:
    """Change a line of round.toml."""
    path = place.folder / state.PLAN
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.medium
def test_a_wrong_plan_is_mended_after_the_labels(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    until_labels(place)
    folder = place.folder / "rounds/001"
    change(place, "lr = 0.02", "lr = 0.01")
    until_labels(place)
    assert place.said[-1].endswith("(ppo). Round 1 keeps its plan, the next one takes it. To take it now, add --redo "
                                   "ppo='the reason'")  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(["round", "run", "--folder", str(place.folder), "--redo", "ppo=lr too large", "--who", "lea"])
    assert (left.value.code, capsys.readouterr().out) == (3, "waiting: 0 of 12 labels\n")
    assert state.read(place.folder, 1).plan.ppo["optimiser"]["lr"] == 0.01
    place.label()
    ALARMS["alarm"] = "gold falls"
    assert place.run().is_over  # no prompt of held-out users is spent
    ALARMS.clear()

    def compared(store: Store, one: Round, consent: str | None) -> dict[str, Any]:
        rows = formats.read(str(one.place(choose.GATE)), Prompt)
        told = {"completions": ["new", "old"], "models": ["candidate", "serving"]}
        with store.writing() as db:
            pairs = [Completions.model_validate(row.row() | told) for row in rows]
            final.queue(db, "gate", round_people.for_labelers(pairs), NOW)
        return {"serving": "m"}

    monkeypatch.setattr(compare, "compare", compared)
    monkeypatch.setattr(compare, "evaluated", lambda one: {})
    monkeypatch.setattr(compare, "evidence", lambda one: Evidence(None))
    monkeypatch.setattr(machine.gate, "decide", lambda *_: GateVerdict("promote", ("wins",)))
    change(place, 'judge = "rounds.place:letters"\n', "")
    for step in ("ppo", "reward"):  # the second time while held-out labelers have the pairs
        with pytest.raises(Waiting, match=r"^0 of \d+ labels$"):
            place.run(again=(step, "too far", "lea"))
    assert sorted(path.name for path in folder.iterdir() if path.stem[:3] in ("ppo", "gat")) == [
        "gate-2.jsonl", "gate.jsonl", "ppo", "ppo-2", "ppo-3",
    ]  # fmt: skip
    gates = [{row["exchange"] for row in rows_of(folder / name)} for name in ("gate.jsonl", "gate-2.jsonl")]
    assert (len(gates[0] | gates[1]), len(gates[0] & gates[1])) == (24, 0)
    with place.store.reading() as db:
        held = db.query(Item.source, Item.held).filter(Item.purpose == "evaluate")
        assert set(held) == {("round-001", "round 1 is done again from reward"), ("round-001-2", None)}
        told = list(lineage.of_run(db, folder / "ppo-2").lines())
    ways = [f"({folder}/ppo -> {folder}/ppo-2)", f"({folder}/ppo-2 -> {folder}/ppo-3)"]
    assert [re.sub(", 2.*, by", ", by", line) for line in told[1:3]] == [
        f"  round 1 done again from ppo, by lea: too far {ways[0]}",
        f"  round 1 done again from reward, by lea: too far {ways[1]}",
    ]
    assert "  done again by lea from the step ppo on, with other settings for ppo: lr too large (" in "\n".join(
        status.lines(place.folder)
    )
    one = vote(place)
    assert one.facts("promote")["path"] == str(folder / "ppo-3")
    assert one.facts("labels") == {"labels": 12, "wanted": 12}
    with pytest.raises(UserError, match=r"round 1 was promoted\. The next round takes the new plan"):
        place.run(again=("ppo", "too far", "lea"))


def vote(place: Place) -> Round:
    """A held-out labeler votes, and the round goes on."""
    with place.store.writing() as db:
        number = projects.by_name(db, "gate").id  # type: ignore[union-attr]
        eve = people.add_person(db, "eve", None, NOW).id
        people.join(db, number, eve, "held_out", NOW)
        projects.change_settings(db, number, {"double_share": 0.0})
    assert place.label("gate", eve) == 12
    return place.run()


@pytest.mark.parametrize(
    ("step", "reason", "changed", "told"),
    [
        ("nap", "x", {}, "no such step"),
        ("ppo", " ", {}, "give a reason, as in --redo ppo="),
        ("queue", "x", {}, "taken up again at labels or later: labelers have its answers"),
        ("ppo", "x", {"prompts": 3}, "changes `prompts`, which prompts has used. Write 12 again, or wait for the next"),
        ("compare", "x", {"start": "last"}, "changes `start`, which ppo has used. Write 'sft' again, or redo ppo"),
    ],
)
def test_what_cannot_be_done_again(place: Place, step: str, reason: str, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match="no round has begun"):
        place.run(again=(step, reason, "lea"))
    until_labels(place)
    place.plan(**changed)
    before = read_json(place.folder / "rounds/001/state.json")
    with pytest.raises(UserError, match=re.escape(told)):
        place.run(again=(step, reason, "lea"))
    assert read_json(place.folder / "rounds/001/state.json") == before


def test_each_setting_of_the_plan_has_a_first_step() -> None:
    assert set(redo.FIRST) == set(state.RoundConfig.model_fields)
    assert set(redo.FIRST.values()) <= set(STEPS)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"others": ["a", "b", "c"]}, "k = 3 leaves no answer of the served model"),
        ({"gate": {"tax": 0.1}}, "gate.tax needs tax_data"),
        ({"reward": {"data": "x"}}, "reward.data follows from the plan"),
        ({"ppo": {"policy": "x"}}, "ppo.policy follows from the plan"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(place: Place, changed: dict[str, Any], told: str) -> None:
    values = state.plan_of(place.folder).model_dump(mode="json")
    with pytest.raises(ValueError, match=told):
        state.RoundConfig.model_validate(values | changed)


@pytest.mark.medium
def test_an_override_has_a_name_and_a_reason_and_a_rollback_goes_back(place: Place) -> None:
    ALARMS["alarm"] = "gold falls"
    until_labels(place)
    place.label()
    one = place.run()
    for given in ({}, {"who": "lea"}, {"reason": "a try"}, {"who": " ", "reason": "a try"}):
        with pytest.raises(
            UserError, match=r"did not pass its gate \(gold falls\). An override needs --who and --reason"
        ):
            promotions.promote(place.store, one, **({"who": None, "reason": None} | given))
    entry = promotions.promote(place.store, one, who="lea", reason="a try")
    assert (entry["who"], entry["why"], entry["override"]) == ("lea", "a try", True)
    assert entry["figures"]["reasons"] == ["gold falls"]
    with pytest.raises(SystemExit):
        main(["round", "promote", "--folder", str(place.folder), "--round", "0", "--who", "lea", "--reason", "x"])
    assert promotions.history(place.folder) == [entry]
    again = promotions.promote(place.store, one, who="bob", reason="again")
    assert again == entry  # it is served already
    assert placed.read(place.folder) == {"model": str(one.path / "ppo")}
    (place.folder / "rounds" / state.HISTORY).unlink()  # as if killed before the history was written
    assert promotions.history(place.folder) == [entry]
    back = promotions.rollback(place.store, one, who="bob", reason=None)
    assert (back["path"], back["previous"], back["who"]) == (one.plan.serving, entry["path"], "bob")
    assert placed.read(place.folder) == {"model": one.plan.serving}
    with pytest.raises(UserError, match="was not promoted by a round"):
        promotions.rollback(place.store, one, who="bob", reason=None)
    assert [one["action"] for one in promotions.history(place.folder)] == ["promote", "rollback"]


def test_a_promotion_that_a_crash_cuts_short_is_in_history_and_lineage_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    until_labels(place)
    one = place.run(skip={"labels": "none", "freeze": "none", "compare": "none"})
    with monkeypatch.context() as patch:
        patch.setattr(promotions, "_log", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promotions.promote(place.store, one, who="lea", reason="a try")
    assert placed.read(place.folder) == {"model": str(one.path / "ppo")}
    entry = promotions.promote(place.store, one, who="lea", reason="a try")
    promotions.promote(place.store, one, who="lea", reason="a try")
    assert promotions.history(place.folder) == [entry]
    with place.store.reading() as db:
        assert [one.detail for one, _ in people.audit_log(db) if one.action == "promote"] == [entry]


def forgotten(place: Place) -> tuple[str, forget.Forgotten]:
    """Forget the user of the first prompt of round 1. Returns the user as files name them, and what was done."""
    (first, *_) = formats.read(str(place.folder / "rounds/001/prompts.jsonl"), Prompt)
    with place.store.reading() as db:
        served = db.get_one(ServedUser, int(str(first.user).removeprefix("user-")))
        name = db.get_one(Person, served.person_id).name
    return str(first.user), forget.forget(place.store, name, [place.folder], NOW, by=None)


@pytest.mark.medium
def test_forgetting_a_user_removes_items_and_rows_of_rounds(place: Place) -> None:
    until_labels(place)
    folder = place.folder / "rounds/001"
    before = rows_of(folder / "prompts.jsonl")
    user, gone = forgotten(place)
    assert [Path(path).name for path in gone.files.cleared] == ["prompts.jsonl", "ranked.jsonl"]
    assert gone.files.kept == ()
    assert "the user's rows are gone from this file of a round" in "\n".join(gone.lines())
    assert rows_of(folder / "prompts.jsonl") == [row for row in before if row["user"] != user]
    assert len(before) == 12
    with place.store.reading() as db:
        mine = db.query(Item.payload).filter(Item.source == "round-001", Item.redacted.is_not(None)).all()
    assert [payload for (payload,) in mine] == [{}]
    with pytest.raises(Waiting, match="0 of 11 labels"):
        place.run()


@pytest.mark.medium
def test_deleting_one_exchange_removes_its_rows_alone(place: Place) -> None:
    place.send(per_user=2, start=5)
    until_labels(place)
    folder = place.folder / "rounds/001"
    before = rows_of(folder / "prompts.jsonl")
    first = before[0]
    others = [row for row in before if row["user"] == first["user"]][1:]
    same = {"prompt": first["prompt"], "completion": "x"}
    with_user = [same | {"user": first["user"]}, same | {"user": "user-0"}, same]
    append_rows(folder / "choices.jsonl", with_user)
    with place.store.reading() as db:
        served = db.get_one(ServedUser, int(first["user"].removeprefix("user-")))
        name = db.get_one(Person, served.person_id).name
    gone = collected.delete(place.store, name, first["exchange"], [place.folder], NOW)
    assert [Path(path).name for path in gone.files.cleared] == ["choices.jsonl", "prompts.jsonl", "ranked.jsonl"]
    assert gone.row()["cleared_files"] == list(gone.files.cleared)
    assert rows_of(folder / "prompts.jsonl") == before[1:]
    assert rows_of(folder / "choices.jsonl") == with_user[1:2]
    assert first["exchange"] not in {row["exchange"] for row in rows_of(folder / "ranked.jsonl")}
    assert all(row in rows_of(folder / "prompts.jsonl") for row in others)


@pytest.mark.medium
def test_forgetting_keeps_and_names_what_a_training_or_an_unfinished_step_has_read(place: Place) -> None:
    until_labels(place)
    folder = place.folder / "rounds/001"
    rows = rows_of(folder / "prompts.jsonl")
    for name in ("read", "asked"):
        append_rows(folder / f"{name}.jsonl", rows)
    (folder / "ppo/model").mkdir(parents=True)
    of_run = [{"prompt": rows[0]["prompt"], "completion": "x"}, {"prompt": "of others"}]
    append_rows(folder / "ppo/samples.jsonl", of_run)

    def begun(stage: str, of: str) -> Manifest:
        return Manifest.begin(stage, Config(), {}, {"prompts": {"path": str(folder / f"{of}.jsonl")}})

    begun("ppo", "read").write(folder / "ppo/manifest.json")
    append_rows(folder / "moved.jsonl", rows[:2])  # read where the folder was before
    (folder / "reward/model").mkdir(parents=True)
    old = {"data": {"path": "/old/moved.jsonl", "sha256": formats.sha256(folder / "moved.jsonl")}}
    Manifest.begin("reward", Config(), {}, old).write(folder / "reward/manifest.json")
    begun("sample", "asked").write(folder / ".samples-0.jsonl.partial.json")
    finished = begun("sample", "prompts")
    finished.record("finished", sha256="of old rows")
    finished.write(folder / "ranked.jsonl.manifest.json")
    user, gone = forgotten(place)
    assert {Path(path).name: [Path(one).name for one in why] for path, why in gone.files.kept} == {
        "read.jsonl": ["ppo"], "moved.jsonl": ["reward"], "asked.jsonl": ["samples-0.jsonl"], "samples.jsonl": ["ppo"],
    }  # fmt: skip
    assert [Path(path).name for path in gone.files.cleared] == ["prompts.jsonl", "ranked.jsonl"]
    assert user in (folder / "read.jsonl").read_text()
    made = Manifest.read(folder / "ranked.jsonl.manifest.json")
    assert made.sha256 == formats.sha256(folder / "ranked.jsonl")
    assert f"ppo/samples.jsonl: a file of a round, which holds some. It stays, because of {folder}/ppo" in str(
        gone.lines()
    )


@pytest.mark.medium
def test_forgetting_leaves_files_alone_while_a_round_is_at_work(place: Place) -> None:
    until_labels(place)
    lock = Lock(place.folder / "rounds/.lock", "")
    user, gone = forgotten(place)
    lock.release()
    assert gone.files.cleared == ()
    assert {why for _, why in gone.files.kept} == {(round_files.AT_WORK,)}
    assert user in (place.folder / "rounds/001/prompts.jsonl").read_text()


@pytest.mark.medium
def test_what_is_too_old_leaves_the_files_of_rounds_or_is_named(
    place: Place, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty prompts are a day older than the others, and for them a year is over."""
    with place.store.writing() as db:
        old = sorted(one.id for one in db.query(Exchange) if one.started < SENT + timedelta(seconds=1))[:20]
        db.execute(sa.update(Exchange).where(Exchange.id.in_(old)).values(started=SENT - timedelta(days=1)))
    until_labels(place)
    folder = place.folder / "rounds/001"
    before = {name: rows_of(folder / f"{name}.jsonl") for name in ("prompts", "ranked")}
    gone = {row["exchange"] for row in before["prompts"]} & set(old)
    assert 0 < len(gone) < 12
    with place.store.reading() as db:
        payloads = [item.payload for item in db.query(Item).filter(Item.source == "round-001")]
    assert not any({"exchange", "sent"} & payload.keys() for payload in payloads)  # the queue needs neither
    place.label(most=1)
    with place.store.reading() as db:
        labelled = db.query(Origin.exchange_id).join(Item, Item.id == Origin.item_id).filter(Item.taken > 0).scalar()
    append_rows(folder / "read.jsonl", before["prompts"])
    run = Manifest.begin("ppo", Config(), {}, {"prompts": {"path": str(folder / "read.jsonl")}})
    (folder / "ppo/model").mkdir(parents=True)
    run.write(folder / "ppo/manifest.json")
    now = SENT + timedelta(days=365)
    sweeping = Collection(place.store, CollectionConfig(), folders=[place.folder], clock=lambda: now)
    lock = Lock(place.folder / "rounds/.lock", "")
    sweeping.sweep()
    lock.release()
    assert gone & {row["exchange"] for row in rows_of(folder / "prompts.jsonl")}  # a round was at work
    caplog.clear()
    sweeping.sweep()
    for name, rows in before.items():
        assert rows_of(folder / f"{name}.jsonl") == [row for row in rows if row["exchange"] not in gone]
    assert rows_of(folder / "read.jsonl") == before["prompts"]
    (line,) = caplog.messages
    told = "a file of a round, which holds exchanges that are too old. It stays, because of"
    assert line == f"{folder}/read.jsonl: {told} {folder}/ppo"
    caplog.clear()
    sweeping.sweep()
    assert caplog.messages == []
    with pytest.raises(Waiting, match=f"1 of {12 - len(gone - {labelled})} labels"):  # what has a label stays
        place.run()
    days = str((datetime.now(UTC) - SENT).days - 1)
    with pytest.raises(SystemExit):
        main(["forget", "--older-than", days, "--folder", str(place.folder), "--json"])
    row = json.loads(capsys.readouterr().out)
    assert (row["exchanges"], row["labelled"]) == (52 - 20, 1 - (labelled in gone))
    assert rows_of(folder / "prompts.jsonl") == []
    with pytest.raises(SystemExit) as left:
        main(["forget", "--folder", str(place.folder)])
    assert (left.value.code, capsys.readouterr().err) == (2, "give --user NAME, or --older-than DAYS\n")


def test_flags_and_lengths_of_a_gate_by_hand() -> None:
    from heedful.data.records import Choice, Comparison

    def judged(user: int, ours: bool, theirs: bool) -> Comparison:
        ratings = [{"overall": 3, "violent": ours}, {"overall": 4, "violent": theirs}]
        return Comparison.model_validate({
            "prompt": f"p{user}", "user": f"u{user}", "completions": ["aa", "bbbb"], "models": ["candidate", "serving"],
            "ranking": [[0], [1]], "ratings": ratings,
        })  # fmt: skip

    rows = [judged(user, user < 4, user == 0) for user in range(12)]
    found = compare.flags_of(rows)
    assert list(found) == ["violent"]
    assert found["violent"].mean == pytest.approx(3 / 12)
    assert isinstance(found["violent"], Difference)
    assert compare.length_of(rows) == pytest.approx(0.5)
    sides: dict[str, Any] = {"a": {"text": "x", "model": "serving"}, "b": {"text": "y", "model": "candidate"}}
    choices = [
        Choice.model_validate({"prompt": prompt, "user": user, "preferred": preferred, **sides})
        for prompt, user, preferred in (("p", "u", "b"), ("p", "u", "tie"), ("q", "v", "a"))
    ]
    assert compare.outcomes_of(choices) == ([0.75, 0.0], ["u", "v"])


def test_every_step_has_its_function() -> None:
    from heedful.rounds.machine import Steps

    assert all(callable(getattr(Steps, step)) for step in STEPS)
