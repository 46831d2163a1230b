"""Best of n: the winner, its score, and what is known of the rest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from heedful.config import UserError, load
from heedful.configs.best_of_n import BestOfNConfig
from heedful.configs.sample import SampleConfig
from heedful.configs.score import ScoreConfig
from heedful.data import formats
from heedful.data.records import Completions
from heedful.files import read_json
from heedful.inference import best_of_n, sample, score
from heedful.runs.manifest import manifest_path
from stages.worlds import Files

SETS = ["generation.max_new_tokens=8"]


def run(files: Files, out: Path, *reward: str, **changes: Any) -> list[Completions]:
    inputs = {"model": files.policy, "prompts": files.prompts, "n": 4, "reward": list(reward), "chunk": 6} | changes
    return formats.read(best_of_n.run(load(BestOfNConfig, None, SETS, **inputs), out), Completions)


@pytest.mark.medium
def test_the_winner_is_the_highest_of_the_same_samples(files: Files, tmp_path: Path) -> None:
    rewards = [files.judge, "2*stages.worlds:count_e"]
    best = run(files, tmp_path / "best.jsonl", *rewards)
    sampled = sample.run(
        load(SampleConfig, None, SETS, model=files.policy, prompts=files.prompts, k=4), tmp_path / "c.jsonl"
    )
    scored = score.run(load(ScoreConfig, None, reward=rewards, data=str(sampled)), tmp_path / "s.jsonl")
    for winner, row in zip(best, formats.read(scored, Completions), strict=True):
        top = row.scores.index(max(row.scores))
        assert winner.prompt == row.prompt
        assert winner.completions == [row.completions[top]]
        assert winner.token_ids == [row.token_ids[top]]
        assert winner.finish == [row.finish[top]]
        assert winner.models == [files.policy]
        assert winner.scores == pytest.approx([row.scores[top]], abs=1e-5)
        assert winner.model_extra["all_scores"] == pytest.approx(row.scores, abs=1e-5)


@pytest.mark.medium
def test_the_results_compare_the_best_with_the_mean(files: Files, tmp_path: Path) -> None:
    rows = run(files, tmp_path / "best.jsonl", files.judge)
    results = read_json(manifest_path(tmp_path / "best.jsonl"))["results"]
    everything = [number for row in rows for number in row.model_extra["all_scores"]]
    assert len(everything) == 4 * 20
    assert results["score"] == pytest.approx(sum(max(row.model_extra["all_scores"]) for row in rows) / 20)
    assert results["mean_score"] == pytest.approx(sum(everything) / 80)
    assert results["kl_bound"] == pytest.approx(math.log(4) - 0.75)


@pytest.mark.medium
def test_of_equal_answers_the_first_is_kept(files: Files, tmp_path: Path) -> None:
    rows = run(files, tmp_path / "best.jsonl", "inference.test_best_of_n:all_alike")
    first = sample.run(
        load(SampleConfig, None, SETS, model=files.policy, prompts=files.prompts, k=1), tmp_path / "c.jsonl"
    )
    assert [row.completions for row in rows] == [row.completions for row in formats.read(first, Completions)]
    assert read_json(manifest_path(tmp_path / "best.jsonl"))["results"]["without_choice"] == len(rows)


def test_at_temperature_0_there_is_no_best(files: Files, tmp_path: Path) -> None:
    settings = load(
        BestOfNConfig, None, ["generation.temperature=0"], model=files.policy, prompts=files.prompts,
        reward=["inference.test_best_of_n:all_alike"], n=4,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"at generation.temperature 0 all 4 answers are equal"):
        best_of_n.run(settings, tmp_path / "best.jsonl")


def all_alike(prompts: list[Any], completions: list[str]) -> list[float]:
    return [1.0] * len(completions)


def with_answer(completions: list[str], answer: list[str | None]) -> list[float | None]:
    return [None if a is None else float(len(c) % 7 == int(a)) for c, a in zip(completions, answer, strict=True)]


@pytest.mark.medium
def test_a_reward_may_know_the_answer_and_have_no_opinion(files: Files, tmp_path: Path) -> None:
    asked = [{"prompt": f"Say {i}", "answer": str(i)} for i in range(3)] + [{"prompt": "Say more"}]
    formats.write(tmp_path / "p.jsonl", asked)
    mine = "inference.test_best_of_n:with_answer"
    rows = run(files, tmp_path / "b.jsonl", mine, "0.001*stages.worlds:count_e", prompts=str(tmp_path / "p.jsonl"))
    assert [row.model_extra.get("no_opinion") for row in rows] == [None, None, None, {mine: 4}]
    assert read_json(manifest_path(tmp_path / "b.jsonl"))["results"]["no_opinion"] == {mine: 4}
    scored = score.run(
        load(ScoreConfig, None, reward=[mine, "0.001*stages.worlds:count_e"], data=str(tmp_path / "b.jsonl")),
        tmp_path / "s.jsonl",
    )
    for row, again in zip(rows, formats.read(scored, Completions), strict=True):
        assert again.scores == pytest.approx(row.scores)
    assert read_json(manifest_path(scored))["results"]["no_opinion"] == {mine: 1}
    with pytest.raises(UserError, match="no opinion on an answer to 'Say more'"):
        run(files, tmp_path / "c.jsonl", mine, prompts=str(tmp_path / "p.jsonl"))
