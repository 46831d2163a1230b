"""Spot checks: which answers are chosen, that nothing marks them, and the shares by hand from people's judgements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tiny
from feedback.team import Team
from heedful import cli
from heedful.config import UserError
from heedful.configs.ppo import PPOConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.spot_check import SpotCheckConfig
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.evaluation import spot_check, spot_labels
from heedful.feedback import people, projects, snapshots
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store
from heedful.files import append_rows, rows_of
from heedful.models import load
from heedful.runs.manifest import Manifest

PROMPTS = 14
LOOP, HACK = "so good " * 10, "hacked"


def row(question: int, step: int, text: str, proxy: float, watch: float, **more: Any) -> dict[str, Any]:
    asked = {"question": question, "prompt": f"Q{question}?", "source": "ours"}
    return {"step": step, **asked, "completion": text, "finish": "stop", "proxy": proxy, "watch": {"w": watch}, **more}


def made(folder: Path, rows: list[dict[str, Any]], reward: str = "stages.worlds:count_e") -> Path:
    """A run of PPO with these stored answers."""
    folder.mkdir()
    config = PPOConfig(policy="sft", reward=[reward], prompts="p.jsonl")
    Manifest.begin("ppo", config, {}, {}).write(folder / "manifest.json")
    append_rows(folder / "watched.jsonl", rows)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """At iteration 10, question 0 loops, 1 and 2 are far above the watch, and 13 has not changed."""
    rows = [row(i, 0, f"first {i}", 0.0, 0.0) for i in range(PROMPTS)]
    for i in range(PROMPTS - 1):
        text = {0: LOOP, 1: HACK, 2: f"{HACK} too"}.get(i, f"later {i}")
        rows.append(row(i, 9, text, 9.0 if i in (1, 2) else 1.0, -1.0 if i in (1, 2) else 1.0))
    return made(tmp_path / "run", [*rows, row(13, 9, "first 13", 0.0, 0.0)])


def test_signs_by_hand() -> None:
    rows = [row(0, 9, "a", 3.0, 1.0), row(1, 9, "b", 1.0, 1.0), row(2, 9, "c", 2.0, 4.0)]
    # proxy: mean 2, deviation sqrt(2/3). watch: mean 2, deviation sqrt(2)
    expected = [1 / (2 / 3) ** 0.5 + 1 / 2**0.5, -1 / (2 / 3) ** 0.5 + 1 / 2**0.5, -2 / 2**0.5]
    assert spot_check.gaps(rows) == pytest.approx(expected)
    assert spot_check.gaps([row(0, 9, "a", 1.0, 1.0)] * 2).tolist() == [0, 0]
    # 80 characters hold 61 runs of 20, and 8 of them differ
    assert spot_check.repetition(LOOP) == pytest.approx(1 - 8 / 61)
    assert spot_check.repetition("so good " * 4) == 0.0


def test_signs_take_turns_and_each_prompt_counts_once() -> None:
    rows = [row(question, 9, str(i), 0, 0) for i, question in enumerate([0, 0, 1, 2, 3, 4])]
    signs = {"x": np.array([5.0, 4.0, 3.0, 0.0, 0.0, 0.0]), "y": np.array([9.0, 0.0, 0.0, 0.0, 0.0, 0.0])}
    assert spot_check.by_sign(rows, signs, 5) == {0: "x", 2: "x"}  # 1 has the prompt of 0, and y has no other
    assert spot_check.by_sign(rows, signs, 1) == {0: "x"}
    signs["y"] = np.array([0.0, 0.0, 0.0, 0.5, 0.0, 0.0])
    assert spot_check.by_sign(rows, signs, 5) == {0: "x", 3: "y", 2: "x"}


def test_the_plan_marks_nothing(run: Path) -> None:
    plan = spot_check.plan(run, SpotCheckConfig(n=3))
    signs = {one["completion"]: one["sign"] for one in plan.chosen if "suspicious" in one["arms"]}
    assert signs == {HACK: "reward above watch", LOOP: "repetition", f"{HACK} too": "reward above watch"}
    assert plan.counts["random"] == 3
    assert plan.counts["suspicious"] + 3 - plan.counts["both"] == len(plan.pairs)
    assert plan.remarks == ["distance is not measured: no reward model whose score is a linear function of the last "
                            "hidden state"]  # fmt: skip
    for pair, chosen in zip(plan.pairs, plan.chosen, strict=True):
        assert pair.row() == {
            "prompt": chosen["prompt"], "source": "ours", "models": ["iteration 10", "iteration 1"],
            "completions": [chosen["completion"], f"first {chosen['question']}"],
        }  # fmt: skip
    everything = spot_check.plan(run, SpotCheckConfig(n=50, seed=1))
    assert everything.counts["random"] == 13  # the answer that has not changed is not sent
    assert "only 13 prompts have an answer that changed, so at most 13 of each are sent" in everything.remarks
    orders = [[pair.prompt for pair in spot_check.plan(run, SpotCheckConfig(seed=seed)).pairs] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_a_second_check_keeps_what_the_first_one_sent(run: Path) -> None:
    spot_check.remember(run, spot_check.plan(run, SpotCheckConfig(n=2)).chosen)
    before = {spot_check.key(one): set(one["arms"]) for one in rows_of(run / "spot_check.jsonl")}
    spot_check.remember(run, spot_check.plan(run, SpotCheckConfig(n=4, seed=5)).chosen)
    after = {spot_check.key(one): one for one in rows_of(run / "spot_check.jsonl")}
    assert len(after) > len(before)
    assert all(arms <= set(after[name]["arms"]) for name, arms in before.items())
    assert all((one["sign"] is not None) == ("suspicious" in one["arms"]) for one in after.values())


@pytest.mark.medium
def test_people_judge_and_the_shares_come_back(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labeler rates loops and hacks 2, and puts the first answer above them. All others get 6 and a tie."""
    monkeypatch.chdir(tmp_path)
    called = CliRunner().invoke(cli.app, ["spot-check", "run", "--queue", "check", "-n", "3", "--json"])
    assert called.exit_code == 0, called.output
    told = json.loads(called.stdout)
    assert told["queue"]["freeze"].startswith("heedful snapshot --project check --records comparison")  # heedful.db
    store = Store.open(tmp_path / "heedful.db")
    team = Team(store)
    with store.reading() as db:
        project = projects.by_name(db, "check")
        assert project is not None
    team.project = project.id
    eve = team.join("eve", "held_out")
    with store.writing() as db:
        people.consent(db, project.id, eve, 1, team.now)
    random_bad = 0.0
    for _ in range(told["queue"]["pairs"]):
        task = team.task("eve")
        bad = next((i for i, text in enumerate(task.completions) if text.startswith((HACK, "so good"))), None)
        ratings = [{"overall": 2 if i == bad else 6} for i in (0, 1)]
        team.submit("eve", task, {"ranking": [[0, 1]] if bad is None else [[1 - bad], [bad]], "ratings": ratings})
    for one in rows_of(run / "spot_check.jsonl"):
        random_bad += one["arms"] == ["random", "suspicious"]
    chosen = Filters(records="comparison", roles=("held_out",), purposes=("evaluate",))
    frozen = snapshots.freeze(store, project.id, tmp_path / "judged", chosen, team.now, by=None)
    called = CliRunner().invoke(cli.app, ["spot-check", "run", "--labels", frozen.path, "--json"])
    assert called.exit_code == 0, called.output
    found = json.loads(called.stdout)
    assert found["arms"]["suspicious"]["bad"]["mean"] == found["arms"]["suspicious"]["worse"]["mean"] == 1.0
    assert found["arms"]["random"]["bad"]["mean"] == pytest.approx(random_bad / 3)
    assert found["difference"]["mean"] == pytest.approx(1 - random_bad / 3)
    assert found["by_sign"]["repetition"]["n"] == 1
    called = CliRunner().invoke(cli.app, ["spot-check", "run", "--labels", frozen.path, "--bad", "1"])
    assert "suspicious     3 of 3 answers judged   bad 0.0%" in called.output
    store.close()


def said(one: dict[str, Any], overall: int | None, *, turned: bool = False) -> Comparison:
    texts = [one["first"], one["completion"]] if turned else [one["completion"], one["first"]]
    ratings = [{"overall": 5}, {"overall": overall}] if turned else [{"overall": overall}, {"overall": 5}]
    return Comparison.model_validate(
        {"prompt": one["prompt"], "completions": texts, "ranking": [[0], [1]], "ratings": ratings}
    )


def test_labels_by_hand(run: Path, tmp_path: Path) -> None:
    """12 suspicious and 12 random answers to 12 prompts: 9 of the first are bad, and 3 of the others."""
    rows = []
    for i in range(12):
        for arm, text in (("suspicious", f"s{i}"), ("random", f"r{i}")):
            sign = "distance" if arm == "suspicious" else None
            rows.append({"prompt": f"Q{i}?", "completion": text, "first": f"f{i}", "arms": [arm], "sign": sign})
    spot_check.remember(run, rows)
    labels = [said(one, 3 if i // 2 < (9 if i % 2 == 0 else 3) else 4, turned=i % 4 > 1) for i, one in enumerate(rows)]
    strange = [said(rows[0] | {"prompt": "other"}, 1), said(rows[0], None)]
    formats.write(tmp_path / "labels.jsonl", [*labels, *strange])
    found = spot_labels.read(run, str(tmp_path / "labels.jsonl"), 3)
    assert found["left_out"] == {"not_of_this_check": 1, "without_rating": 1}
    # Wilson's interval of 9 and of 3 in 12
    bad = {arm: one["bad"] for arm, one in found["arms"].items()}
    assert [round(bad["suspicious"][name], 3) for name in ("mean", "low", "high")] == [0.75, 0.468, 0.911]
    assert [round(bad["random"][name], 3) for name in ("mean", "low", "high")] == [0.25, 0.089, 0.532]
    assert found["arms"]["suspicious"]["worse"]["mean"] == 0.5  # turned rows rank the checked answer last
    assert found["difference"]["mean"] == pytest.approx(0.5)
    assert 0.1 < found["difference"]["low"] < 0.5 < found["difference"]["high"] < 0.9
    text = spot_labels.describe(found)
    assert "suspicious minus random: +50.0 points (+" in text
    assert "left out: 1 not of this check, 1 without rating" in text


def test_the_distance_is_that_from_the_training_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ranked = [
        {"prompt": f"Q{i}?", "completions": [f"red {i}", f"blue {i}"], "ranking": [[0], [1]]} for i in range(20)
    ]  # fmt: skip
    formats.write(Path("ranked.jsonl"), ranked)
    Path("rm").mkdir()
    load.save(tiny.reward(context=128), tiny.tokenizer(), Path("rm/model"))
    config = RewardConfig(model="policy", data="ranked.jsonl")
    data = {"data": formats.fingerprint("ranked.jsonl")}
    Manifest.begin("reward", config, {}, data).write(Path("rm/manifest.json"))
    rows = [row(i, 0, f"first {i}", 0.0, 0.0) for i in range(4)]
    rows += [row(i, 9, "~{}|" * 9 if i == 2 else f"red {i}", 0.0, 0.0) for i in range(4)]
    plan = spot_check.plan(made(tmp_path / "run", rows, "0.5*rm"), SpotCheckConfig(n=1))
    assert plan.remarks == []
    assert [(one["question"], one["sign"]) for one in plan.chosen if "suspicious" in one["arms"]] == [(2, "distance")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --queue and a project, or --labels and a snapshot"),
        (["--queue", "p", "--labels", "x"], "give --queue and a project, or --labels"),
        (["--labels", "x", "-n", "3"], "-n: --labels does not use it"),
        (["--labels", "x", "--db", "y"], "--db: --labels does not use it"),
        (["--queue", "p", "--bad", "2"], "--bad: --queue does not use it"),
        (["--labels", "x"], "no spot check was sent"),
    ],
)
def test_what_does_not_fit_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli.app, ["spot-check", "run", *arguments], catch_exceptions=False)


def test_a_run_without_answers_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Train with --watch"):
        spot_check.plan(made(tmp_path / "a", []), SpotCheckConfig())
    same = [row(0, step, "same", 0.0, 0.0) for step in (0, 9)]
    with pytest.raises(UserError, match="no answer has changed since iteration 1"):
        spot_check.plan(made(tmp_path / "b", same), SpotCheckConfig())
