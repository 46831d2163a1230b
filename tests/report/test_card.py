"""The model card: figures from the files of a small run, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError
from heedful.data import formats
from heedful.report.card import MARK, write


def manifest(path: Path, stage: str, **more: Any) -> Path:
    (path / "model").mkdir(parents=True)
    values = {"id": path.name * 4, "stage": stage, "status": "finished", "config": {}, "parents": {}, "data": {}}
    (path / "manifest.json").write_text(json.dumps(values | more))
    return path


@pytest.fixture
def ppo(tmp_path: Path) -> Path:
    """Two labelers rank the same three answers and agree on one pair of two: the third is a tie of ben."""
    base = {"prompt": "p", "completions": ["x", "y", "z"], "judgement": "hash"}
    formats.write(tmp_path / "ranked.jsonl", [
        {**base, "ranking": [[0], [1], [2]], "labeler": "ann", "group": "north"},
        {**base, "ranking": [[1], [0, 2]], "labeler": "ben", "group": "south"},
    ])  # fmt: skip
    source = {"path": str(tmp_path / "ranked.jsonl"), "sha256": "a" * 64, "rows": 2}
    sft = manifest(tmp_path / "sft", "sft", parents={"model": {"ref": "hub/base"}}, seconds=65)
    formats.write(
        tmp_path / "held_out.jsonl", [{**base, "ranking": [[0], [1], [2]], "labeler": "cleo", "group": "east"}]
    )
    files = {"data": source, "eval_data": {"path": str(tmp_path / "held_out.jsonl"), "sha256": "b" * 64, "rows": 1}}
    reward = manifest(tmp_path / "reward", "reward", parents={"model": {"ref": str(sft)}}, data=files)
    parents = {"policy": {"ref": str(sft)}, "reward": {"ref": str(reward)}}
    results = {"kl": 6.25, "signs": ["length grows"], "alarm": f"min({reward},gold) falls"}
    checks = [
        {"name": f"accuracy of {reward}", "figure": "60.0%", "bound": "above 'longer wins' (70.0%)", "passed": False},
        {"name": "KL budget", "figure": "1 nat", "bound": "2 nats", "passed": True},
    ]
    return manifest(tmp_path / "ppo", "ppo", parents=parents, results=results, preflight=checks)


def evaluation(path: Path) -> Path:
    rate = {"rate": 0.85, "low": 0.82, "high": 0.88, "n": 900}
    flags = {"hallucination": {"mean": 0.21, "low": None, "high": None, "n": 9}}
    figures = {
        "win_rates": {"ppo": rate}, "by_use_case": {"false_premise": {"ppo": rate | {"rate": 0.4}}},
        "ratings": {"models": {"ppo": {"overall": None, "flags": flags}}},
    }  # fmt: skip
    path.mkdir()
    (path / "result.json").write_text(json.dumps({"judges": {"people.jsonl": figures}, "baseline": "sft"}))
    return path


def test_a_card_ships_with_the_model(ppo: Path, tmp_path: Path) -> None:
    sheets = [{"age": "30-39"}] * 6 + [{"age": "70+"}, {"age": "18-29"}]
    (tmp_path / "survey.jsonl").write_text("".join(json.dumps(sheet) + "\n" for sheet in sheets))
    judged = evaluation(tmp_path / "judged")
    here = (judged / "result.json").read_text().replace('"people.jsonl"', f'"{tmp_path}/people.jsonl"')
    (judged / "result.json").write_text(here)
    path = write(ppo, evaluations=[judged], intended="Answers about tea.", survey=tmp_path / "survey.jsonl")
    assert path == ppo / "model" / "README.md"
    text = path.read_text()
    assert text.startswith("---\nlibrary_name: transformers\n")
    for line in (
        "base_model: hub/base",
        "Answers about tea.",
        "- Labelers: 2, with 2 demonstrations, rankings and choices.",
        "north 50%, south 50%",
        "- Agreement of two labelers on the same two answers, ties left out: 50.0% of 2 pairs.",
        "- data of reward: ranked.jsonl (sha256 aaaaaaaaaaaa…), 2 rows. 2 of them come from heedful's labelling app",
        "- Survey, age: 30-39 6, fewer than 5 each: 2.",
        "- kl: 6.25",
        "- warning of the run: length grows",
        "- warning of the run: min(reward,gold) falls",
        "- check before the run that failed: accuracy of reward: 60.0%, where above 'longer wins' (70.0%) is asked for",
        "- ppo is preferred to sft on 85.0 % of 900 prompts (82.0% to 88.0%), judged by people.jsonl",
        "- accepts a false premise: ppo is preferred to sft on 40.0 %",
        "- hedges where the answer is plain: not measured",
        "hallucination 21.0 %",
        "- sft (sft): 1 min 5 s",
    ):
        assert line in text, line
    assert "70+" not in text
    assert str(tmp_path) not in text  # the card leaves this machine
    assert write(ppo).read_text().count("Not stated by the people who trained it.") == 1  # an earlier card is replaced


@pytest.mark.parametrize(
    ("base", "told"), [("/a/b/small", "small"), (r"C:\models\small", "small"), ("m/small", "m/small")]
)
def test_a_base_is_named_without_its_place(tmp_path: Path, base: str, told: str) -> None:
    run = manifest(tmp_path / "sft", "sft", parents={"model": {"ref": base}})
    assert f"A language model trained with sft, from {told}, by" in write(run).read_text()


def test_what_is_no_card_stays(ppo: Path, tmp_path: Path) -> None:
    (ppo / "model" / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"README\.md: already exists and is no card of heedful"):
        write(ppo)
    assert MARK in write(ppo, tmp_path / "card.md").read_text()
    with pytest.raises(UserError, match="holds no result of heedful evaluate"):
        write(ppo, tmp_path / "card.md", evaluations=[tmp_path])
    (tmp_path / "survey.jsonl").write_text('{"age": "20"}\n[1]\n')
    with pytest.raises(UserError, match=r"survey\.jsonl, line 2: is no JSON object"):
        write(ppo, tmp_path / "card.md", survey=tmp_path / "survey.jsonl")


def test_a_run_without_a_model_has_no_place_for_a_card(ppo: Path) -> None:
    (ppo / "model").rmdir()
    with pytest.raises(UserError, match=r"ppo: has no model/ yet"):
        write(ppo)
    for folder, why in (("folds", "a cross-validation leaves no model"), ("members", r"an ensemble\. Name one of")):
        (ppo / folder).mkdir()
        with pytest.raises(UserError, match=why):
            write(ppo)


def test_the_card_of_a_reward_model_is_none_of_a_language_model(tmp_path: Path) -> None:
    rate = {"rate": 0.7101, "low": 0.6856, "high": 0.7333, "n": 4318}
    results = {"pairs": 56910, "bias": 4.51149, "valid": {"accuracy": rate, "by_group": {"north": rate}}, "flags": None}
    text = write(manifest(tmp_path / "reward", "reward", results=results)).read_text()
    for line in (
        "pipeline_tag: text-classification",
        "A reward model, which scores answers, by the method of InstructGPT.",
        "- pairs: 56,910\n- bias: 4.511\n- valid accuracy: 71.0 % of 4,318 (68.6% to 73.3%)\n\n",
        "It writes no text.",
        "Scores of different prompts do not compare",
    ):
        assert line in text, line
    assert "language model" not in text
    assert "false premise" not in text
