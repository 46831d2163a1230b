"""Little data: nothing held out, one row, few updates. Each is allowed, and each is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from heedful.config import build
from heedful.configs import registry
from heedful.data.records import Prompt
from heedful.files import read_json
from heedful.learning.examples import Question, TokenLimits, divided
from heedful.learning.online import tell_repeated
from heedful.runs.run import metrics
from stages import worlds
from stages.turns import PLAIN
from stages.worlds import Files

ROWS = {"sft": worlds.demonstrations, "reward": worlds.rankings, "dpo": worlds.rankings}


def train(stage: str, files: Files, out: Path, **changes: Any) -> Path:
    values = {"model": files.policy, "batch": 4, "epochs": 2, "optimiser": {"lr": 1e-3}, "checkpoint": {"every": 1}}
    config = build(registry.stages()[stage].config, values | changes, "the test")
    return registry.stages()[stage].run(config, out)


@pytest.mark.medium
@pytest.mark.parametrize(("rows", "changes"), [(8, {"valid_fraction": 0.0}), (1, {})], ids=["fraction 0", "one row"])
@pytest.mark.parametrize("stage", ROWS)
def test_all_rows_are_trained_on_and_the_last_weights_kept(
    files: Files, tmp_path: Path, stage: str, rows: int, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = worlds.write(tmp_path / "data.jsonl", ROWS[stage](rows))
    run = train(stage, files, tmp_path / "run", data=data, **changes)
    results = read_json(run / "manifest.json")["results"]
    assert results["examples" if stage == "sft" else "rankings"] == rows
    assert not {"valid", "valid_loss", "valid_accuracy"} & results.keys()
    assert not any(key.startswith("valid") for row in metrics(run) for key in row)
    steps = len(metrics(run))
    assert results["steps"] == steps == results.get("best_step", steps)
    last = load_file(run / "checkpoints" / f"step-{steps:08d}" / "model.safetensors")
    model = load_file(run / "model" / "model.safetensors")
    assert all((model[name] == last[name]).all() for name in model)
    said = capsys.readouterr().err
    assert ("no demonstration is held out" if stage == "sft" else "no ranking is held out") in said
    assert "last weights are kept" in said


@pytest.mark.medium
def test_a_selector_chooses_without_held_out_rows(files: Files, tmp_path: Path) -> None:
    run = train(
        "sft", files, tmp_path / "run", data=files.demos, valid_fraction=0.0, prompts=files.prompts,
        select_with="stages.worlds:count_e", select_samples=4, generation={"max_new_tokens": 4},
    )  # fmt: skip
    results = read_json(run / "manifest.json")["results"]
    assert {"best_step", "valid_reward"} <= results.keys()
    assert "valid_loss" not in results


@pytest.mark.medium
@pytest.mark.parametrize("held_out", [2, 4])
def test_held_out_prompts_are_not_trained_on(
    files: Files, tmp_path: Path, held_out: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"prompt": f"Say {n}", "split": ("valid", "test")[n % 2]} for n in range(held_out)]
    rows += [{"prompt": f"Say {n}", "split": "train"} for n in range(held_out, 4)]
    prompts = worlds.write(tmp_path / "prompts.jsonl", rows)
    run = worlds.train("ppo", files, tmp_path / "run", prompts=prompts, episodes=8, pretrain_data=None)
    counts = read_json(run / "manifest.json").get("rows", {})
    if held_out == 4:
        assert f"{prompts}: every prompt has split valid or test. They are trained on" in caplog.messages
    else:
        assert counts == {prompts: {"held_out": 2}}
        samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
        assert {row["prompt"] for row in samples} <= {"Say 2", "Say 3"}
        assert samples


def test_prompts_that_repeat_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    limits = TokenLimits(99, 99, 9)
    one, other = (Question(text, [number], Prompt(prompt=text)) for number, text in enumerate("ab"))
    tell_repeated("p.jsonl", [one, other], limits)
    assert (limits.counts, caplog.messages) == ({}, [])
    tell_repeated("p.jsonl", [one, other, one, one], limits)
    assert limits.counts == {"p.jsonl": {"repeated": 2}}
    assert caplog.messages == ["p.jsonl: 2 of 4 prompts repeat an earlier one. 2 are different"]


def test_one_prompt_is_not_held_out() -> None:
    """Whatever its draw, also with several rows."""
    for seed in range(40):
        assert divided([Prompt(prompt="only")] * 3, 0.5, seed, print) == ([0, 1, 2], [])
        training, validation = divided([Prompt(prompt="a"), Prompt(prompt="b")], 0.01, seed, print)
        assert len(training) == len(validation) == 1


@pytest.mark.medium
@pytest.mark.parametrize(
    ("stage", "changes", "told"),
    [
        (
            "sft",
            {"data": "demos", "epochs": 1, "batch": 3},
            "sft: only 8 updates in all. To train more, raise epochs or lower",
        ),
        ("reward", {"data": "rankings", "batch": 100}, "reward: only 2 updates in all. To train more, raise epochs"),
        (
            "dpo",
            {"data": "rankings", "epochs": 1, "batch": 100},
            "dpo: only 1 update in all. To train more, raise epochs",
        ),
    ],
)
def test_few_updates_are_said(
    files: Files, tmp_path: Path, stage: str, changes: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = changes | {"data": getattr(files, changes["data"]), "valid_fraction": 0.0}
    train(stage, files, tmp_path / "run", **changes)
    assert told in capsys.readouterr().err


@pytest.mark.medium
def test_few_updates_of_ppo_are_minibatches(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"reward": ["stages.worlds:count_e"], "episodes": 16, "minibatch": 8, **PLAIN}
    worlds.train("ppo", files, tmp_path / "few", epochs=4, **changes)
    assert "only 8 updates in all. To train more, raise episodes, or lower rollout_batch" in capsys.readouterr().err
    worlds.train("ppo", files, tmp_path / "ten", epochs=5, **changes)
    assert "updates in all" not in capsys.readouterr().err


@pytest.mark.medium
def test_all_tied_rows_of_eval_data_are_reported(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tied = {"prompt": "Tied", "completions": ["a", "b"], "ranking": [[0, 1]]}
    held_out = worlds.write(tmp_path / "held_out.jsonl", [tied, *worlds.rankings(3), tied])
    for stage in ("reward", "dpo"):
        run = train(stage, files, tmp_path / stage, data=files.rankings, eval_data=held_out, epochs=1)
        assert read_json(run / "manifest.json")["results"]["eval_all_tied"] == 2
        assert "2 of 5 rankings in" in capsys.readouterr().err


@pytest.mark.medium
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"demonstrations": None},
            "without --demonstrations the bias stays 0, and a score of 0 means nothing by itself",
        ),
        ({"demonstrations": "demos"}, None),
    ],
)
def test_reward_says_what_its_zero_means(
    files: Files, tmp_path: Path, changes: dict[str, Any], told: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = changes["demonstrations"] and getattr(files, changes["demonstrations"])
    train("reward", files, tmp_path / "run", data=files.rankings, demonstrations=shown, epochs=1)
    said = capsys.readouterr().err
    assert told in said if told else "--demonstrations" not in said


@pytest.mark.medium
@pytest.mark.parametrize(("epochs", "told"), [(16, True), (2, False)])
def test_sft_says_what_chooses_among_many_epochs(
    files: Files, tmp_path: Path, epochs: int, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    train("sft", files, tmp_path / "run", data=files.demos, epochs=epochs, batch=32, checkpoint={"every": 100})
    said = capsys.readouterr().err
    assert (f"chooses among {epochs} epochs" in said and "--select-with and --prompts" in said) is told
