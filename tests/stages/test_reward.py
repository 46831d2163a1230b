"""The reward model: its loss by hand, its bias, what is held out, what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import tiny
from heedful.config import UserError, build
from heedful.configs import registry
from heedful.configs.dpo import DPOConfig
from heedful.files import read_json
from heedful.learning import examples
from heedful.learning.examples import Ranked, TokenLimits
from heedful.learning.passes import Passes
from heedful.models import batches, heads, load
from heedful.runs.run import metrics
from heedful.stages import dpo, reward
from heedful.training.parallel import Ranks
from stages import plain, worlds
from stages.worlds import Files

STILL = {"optimiser": {"lr": 0.0}, "epochs": 1, "batch": 100}
WIDE = TokenLimits(128, 128, 128)


def rows_of(path: str, *, limits: TokenLimits = WIDE) -> list[Ranked]:
    return [row for row in examples.rankings(path, tiny.tokenizer(), limits) if row.untied]


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / "manifest.json")["results"]
    return found


@pytest.mark.medium
@pytest.mark.parametrize("normaliser", ["k_choose_2", "valid_pairs"])
def test_loss_accuracy_and_gradient_by_hand(files: Files, tmp_path: Path, normaliser: str) -> None:
    run = worlds.train(
        "reward", files, tmp_path / "run", model=files.judge, eval_data=files.rankings, normaliser=normaliser,
        compute={"micro_tokens": 300}, **STILL,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(files.judge).eval()
    rows = rows_of(files.rankings)
    assert any(len(row.ranks) > len(set(row.ranks)) for row in rows)  # some with ties
    losses, margins = [], []
    for row in rows:
        one, found = plain.ranking_loss(model, row, normaliser)
        losses.append(one)
        margins += found
    loss = torch.stack(losses).mean()
    loss.backward()
    (logged,) = metrics(run)
    assert logged["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert logged["accuracy"] == pytest.approx(sum(m > 0 for m in margins) / len(margins))
    assert logged["gradient_norm"] == pytest.approx(plain.gradient_norm(model), rel=1e-4)
    assert logged["valid_accuracy"] == pytest.approx(logged["accuracy"])
    assert results(run)["valid"]["accuracy"]["n"] == results(run)["pairs"] == len(margins)


@pytest.mark.medium
@pytest.mark.parametrize("micro_tokens", [1, 10_000])
def test_groups_weigh_their_rankings(files: Files, tmp_path: Path, micro_tokens: int) -> None:
    """The loss is the weighted mean over the batch, whatever its cut: a counts once, b a quarter."""
    run = worlds.train(
        "reward", files, tmp_path / "run", model=files.judge, eval_data=files.rankings,
        groups={"a": 2.0, "b": 0.5}, compute={"micro_tokens": micro_tokens}, **STILL,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(files.judge).eval()
    losses = {group: [] for group in "ab"}
    for row in rows_of(files.rankings):
        losses[row.record.group].append(plain.ranking_loss(model, row, "k_choose_2")[0])
    a, b = (torch.stack(losses[group]) for group in "ab")
    loss = (a.sum() + 0.25 * b.sum()) / (len(a) + 0.25 * len(b))
    loss.backward()
    (logged,) = metrics(run)
    assert logged["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert logged["gradient_norm"] == pytest.approx(plain.gradient_norm(model), rel=1e-4)
    assert abs(a.mean() - b.mean()) > 1e-3  # else weights would not show


def test_a_weight_counts_where_its_group_is_alone_in_a_batch(files: Files) -> None:
    """Weights 0.1 and 1.9 have a mean of 1 here: a gradient of a lone ranking is 0.1 or 1.9 times the plain one."""
    model, _ = load.load_reward(files.judge)
    rows, passes = rows_of(files.rankings)[:4], Passes(1, 1000, Ranks(0, 1, torch.device("cpu"), torch.float32))
    assert [row.record.group for row in rows] == ["a", "b", "a", "b"]
    weighted = worlds.config("reward", files, groups={"a": 0.1, "b": 1.9})
    norms = {}
    for row, share in ((rows[0], 0.1), (rows[1], 1.9)):
        for config, mean in ((worlds.config("reward", files), 1.0), (weighted, 1.0)):
            reward._gradients(config, model, [row], mean, passes)
            norms[bool(config.groups)] = plain.gradient_norm(model)
            model.zero_grad()
        assert norms[True] == pytest.approx(share * norms[False], rel=1e-4)


@pytest.mark.medium
def test_rankings_have_weights_of_their_own(files: Files, tmp_path: Path) -> None:
    """A weight in the rows does what the same weight of a group does, and both multiply."""
    everybody = [json.loads(line) for line in Path(files.rankings).read_text("utf-8").splitlines()]
    weighted = [row | ({"weight": 0.25} if row["group"] == "b" else {}) for row in everybody]
    data = worlds.write(tmp_path / "weighted.jsonl", weighted)
    own = worlds.train("reward", files, tmp_path / "own", data=data)
    assert worlds.disagreements(own, worlds.train("reward", files, tmp_path / "a", groups={"a": 1.0, "b": 0.25})) == []
    twice = worlds.train("reward", files, tmp_path / "twice", data=data, groups={"a": 1.0, "b": 4.0})
    assert worlds.disagreements(twice, worlds.train("reward", files, tmp_path / "plain")) == []
    with pytest.raises(UserError, match="rankings have weights, which dpo does not use"):
        dpo.train(build(DPOConfig, {"model": files.policy, "data": data}, "the test"), tmp_path / "dpo")


@pytest.mark.medium
def test_weights_are_divided_by_their_mean_over_the_data(files: Files, tmp_path: Path) -> None:
    """Weights ten times as large teach the same."""
    one, ten = (
        worlds.train("reward", files, tmp_path / str(factor), groups={"a": factor * 0.1, "b": factor * 1.9})
        for factor in (1, 10)
    )
    assert worlds.disagreements(one, ten) == []


@pytest.mark.medium
def test_a_group_left_out_teaches_nothing_and_is_still_measured(files: Files, tmp_path: Path) -> None:
    everybody = [json.loads(line) for line in Path(files.rankings).read_text("utf-8").splitlines()]
    alone = worlds.write(tmp_path / "alone.jsonl", (row for row in everybody if row["group"] == "b"))
    settings = {"eval_data": files.rankings, "demonstrations": None}
    same = worlds.train("reward", files, tmp_path / "same", data=alone, **settings)
    for name, groups in (("limited", {"b": 0.5}), ("zero", {"a": 0.0, "b": 1.0})):
        run = worlds.train("reward", files, tmp_path / name, groups=groups, **settings)
        assert worlds.hashes(run) == worlds.hashes(same)
        assert results(run)["rankings"] == results(run)["other_groups"] == 12
        assert set(results(run)["valid"]["by_group"]) == {"a", "b"}


@pytest.mark.medium
def test_groups_that_nobody_is_in(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rankings\.jsonl: groups\.c names nobody. .* hold a \(\d+\), b \(\d+\)"):
        worlds.train("reward", files, tmp_path / "run", groups={"a": 1.0, "c": 1.0})
    with pytest.raises(UserError, match=r"every group has weight 0. Give one of them more: a \(\d+\), b \(\d+\)"):
        worlds.train("reward", files, tmp_path / "run", groups={"a": 0.0})
    with pytest.raises(UserError, match=r"groups\.a"):
        worlds.train("reward", files, tmp_path / "run", groups={"a": -1.0})


@pytest.mark.medium
def test_demonstrations_score_zero_on_average(files: Files, tmp_path: Path) -> None:
    run = worlds.train("reward", files, tmp_path / "run")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    bias = model.config.heedful_reward_bias
    assert bias == results(run)["bias"] != 0
    demos = examples.demonstrations(files.demos, tiny.tokenizer(), WIDE)
    with torch.no_grad():
        scores = [float(plain.score(model, e.prompt_ids, e.response_ids)) + bias for _, e in demos]
    assert sum(scores) / len(scores) == pytest.approx(0.0, abs=1e-5)
    assert max(scores) > 0.01


def test_demonstrations_that_cannot_be_read_stop_it_before_the_first_step(files: Files, tmp_path: Path) -> None:
    long = worlds.write(tmp_path / "long.jsonl", [{"prompt": "Say red " * 200, "completion": "red"}])
    with pytest.raises(UserError, match=r"long\.jsonl: prompt 1 has"):
        worlds.train("reward", files, tmp_path / "run", demonstrations=long)
    assert not (tmp_path / "run").exists()


@pytest.mark.medium
def test_without_demonstrations_the_bias_stays(files: Files, tmp_path: Path) -> None:
    new = worlds.train("reward", files, tmp_path / "new", demonstrations=None, **STILL)
    further = worlds.train("reward", files, tmp_path / "further", demonstrations=None, model=files.judge, **STILL)
    assert [results(run)["bias"] for run in (new, further)] == [0.0, 0.25]
    assert heads.reward_bias(load.load_reward(further)[0]) == 0.25


@pytest.mark.medium
def test_a_further_bias_replaces_the_one_before(files: Files, tmp_path: Path) -> None:
    """The judge's bias of 0.25 is part of the scores that are shifted: twice normalised is once normalised."""
    once = worlds.train("reward", files, tmp_path / "once", model=files.judge, **STILL)
    twice = worlds.train("reward", files, tmp_path / "twice", model=str(once), **STILL)
    assert results(twice)["bias"] == pytest.approx(results(once)["bias"], abs=1e-6)


@pytest.mark.medium
def test_it_learns_what_labelers_prefer(files: Files, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"Say {i}",
            "completions": ["a red house", "a blue house", "a green house"],
            "ranking": [[0], [1, 2]],
        }
        for i in range(24)
    ]
    data = worlds.write(tmp_path / "data.jsonl", rows)
    run = worlds.train("reward", files, tmp_path / "run", data=data, epochs=6, optimiser={"lr": 3e-3})
    logged = metrics(run)
    assert logged[-1]["loss"] < 0.5 * logged[0]["loss"]
    assert results(run)["valid"]["accuracy"]["rate"] == 1.0


@pytest.mark.medium
def test_all_tied_rankings_are_counted_skipped_and_reported(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tied = [{"prompt": f"Tied {i}", "completions": ["a", "b"], "ranking": [[0, 1]]} for i in range(3)]
    data = worlds.write(tmp_path / "data.jsonl", [*tied, *worlds.rankings(12)])
    with_tied = worlds.train("reward", files, tmp_path / "with", data=data, valid_fraction=0.3)
    assert results(with_tied)["all_tied"] == 3
    assert "3 of 15 rankings are all tied and have no pair. Left out" in capsys.readouterr().err
    without = worlds.write(tmp_path / "without.jsonl", worlds.rankings(12))
    other = worlds.train("reward", files, tmp_path / "other", data=without, valid_fraction=0.3)
    assert worlds.hashes(with_tied) == worlds.hashes(other)
    only = worlds.write(tmp_path / "only.jsonl", tied)
    with pytest.raises(
        UserError, match=r"only\.jsonl: no ranked pair to learn from \(3 rankings, every one all tied\)"
    ):
        worlds.train("reward", files, tmp_path / "none", data=only)
    with pytest.raises(UserError, match=r"only\.jsonl: no ranked pair left to validate on"):
        worlds.train("reward", files, tmp_path / "none", eval_data=only)
    with pytest.raises(UserError, match=r"no ranked pair left to train on"):
        worlds.train("reward", files, tmp_path / "none", valid_fraction=1.0)
    assert not (tmp_path / "none").exists()


def test_one_completion_is_no_comparison(files: Files, tmp_path: Path) -> None:
    row = {"prompt": "Say red", "completions": ["red"], "ranking": [[0]]}
    with pytest.raises(UserError, match=r"data\.jsonl:1: .*has one completion, a comparison needs two or more"):
        worlds.train("reward", files, tmp_path / "run", data=worlds.write(tmp_path / "data.jsonl", [row]))


@pytest.mark.medium
@pytest.mark.parametrize("longer", [True, False])
def test_no_better_than_longer_wins_is_said(
    files: Files, tmp_path: Path, longer: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    order = [[0], [1]] if longer else [[1], [0]]
    rows = [{"prompt": f"Say {i}", "completions": [f"{i} " * 9, f"{i}"], "ranking": order} for i in range(20)]
    data = worlds.write(tmp_path / "data.jsonl", rows)
    worlds.train("reward", files, tmp_path / "run", data=data, eval_data=data, **STILL)
    said = capsys.readouterr().err
    assert ("no better than 'longer wins' (100.0%)" in said) is longer
    assert ("warning" in said) is longer


@pytest.mark.medium
def test_accuracy_by_labeler_group_and_length_is_in_the_manifest(files: Files, tmp_path: Path) -> None:
    valid = results(worlds.train("reward", files, tmp_path / "run", eval_data=files.rankings, **STILL))["valid"]
    assert set(valid["by_labeler"]) == {"l0", "l1", "l2"}
    assert set(valid["by_group"]) == {"a", "b"}
    whole = valid["accuracy"]
    for table in ("by_labeler", "by_group", "by_length_difference"):
        parts = valid[table].values()
        assert sum(part["n"] for part in parts) == whole["n"]
        assert sum(part["n"] * part["rate"] for part in parts) == pytest.approx(whole["n"] * whole["rate"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "compute", [{"micro_tokens": 1}, {"micro_tokens": 10_000, "activation_checkpointing": True}], ids=str
)
def test_micro_batches_and_recomputed_activations_change_nothing(
    files: Files, tmp_path: Path, compute: dict[str, Any]
) -> None:
    runs_ = [
        worlds.train("reward", files, tmp_path / name, epochs=1, batch=10, compute=settings)
        for name, settings in (("one", {"micro_tokens": 10_000}), ("other", compute))
    ]
    one, other = (load_file(run / "model" / "model.safetensors") for run in runs_)
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-5)  # a hundredth of a step


def test_a_prompt_is_never_cut_between_its_completions() -> None:
    assert batches.in_order([5, 5, 5, 30, 1], 10) == [[0, 1], [2], [3], [4]]
    assert batches.in_order([5, 5, 5, 30, 1], 1000) == [[0, 1, 2, 3, 4]]
    assert batches.in_order([5, 5, 5, 5], 1000, ranks=2) == [[0, 1], [2, 3]]  # a part for each


@pytest.mark.medium
def test_scores_come_back_in_order_whatever_the_cut(files: Files) -> None:
    model, tokenizer = load.load_reward(files.judge)
    rows = rows_of(files.rankings)
    world = Ranks(0, 1, torch.device("cpu"), torch.float32)
    for micro_tokens in (1, 100, 10_000):
        scored = reward.score_rankings(model, rows, Passes(tokenizer.pad_token_id, micro_tokens, world))
        assert [len(scores) for scores in scored] == [len(row.ranks) for row in rows]
        with torch.no_grad():
            for row, scores in list(zip(rows, scored, strict=True))[::5]:
                by_hand = [float(plain.score(model, row.prompt_ids, r)) + 0.25 for r in row.responses]
                assert scores == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.medium
def test_low_precision_scores_stay_close(files: Files, tmp_path: Path) -> None:
    full, low = (
        worlds.train("reward", files, tmp_path / dtype, model=files.judge, compute={"dtype": dtype}, **STILL)
        for dtype in ("float32", "bfloat16")
    )
    losses = [metrics(run)[0]["loss"] for run in (full, low)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.05)


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_pairs_of_the_same_answer_are_counted_and_not_learned_from(files: Files, tmp_path: Path, stage: str) -> None:
    rows = [{"prompt": f"Say {i}", "completions": [f"{i} red", f"{i} blue"], "ranking": [[0], [1]]} for i in range(8)]
    rows += [{"prompt": f"Tell {i}", "completions": ["red", "red"], "ranking": [[0], [1]]} for i in range(4)]
    rows += [{"prompt": "All", "completions": ["red", "blue", "red"], "ranking": [[0], [1], [2]]}]
    data = worlds.write(tmp_path / "r.jsonl", rows)
    values = {"model": files.policy, "data": data, "eval_data": data, **STILL}
    command = registry.stages()[stage]
    run = command.run(build(command.config, values, "the test"), tmp_path / stage)
    manifest = read_json(run / "manifest.json")
    assert manifest["rows"] == {data: {"same_answers": 4, "same_pairs": 1}}
    assert (manifest["results"]["rankings"], manifest["results"]["pairs"]) == (9, 10)
    assert manifest["results"].get("valid", {"accuracy": {"n": 10}})["accuracy"]["n"] == 10
