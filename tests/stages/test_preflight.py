"""Checks before a stage: figures by hand, what stops and what warns, and what the manifest keeps."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from heedful.config import UserError
from heedful.configs.ppo import PPOConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.shared import Compute
from heedful.data import formats
from heedful.data.records import Prompt
from heedful.files import read_json
from heedful.learning import preflight
from heedful.learning.budget import of_budget
from heedful.models import load
from heedful.rewards.functions import open_reward
from heedful.runs.manifest import Manifest, parent
from stages import worlds
from stages.worlds import Files

DEMOS = [
    {"prompt": f"p{max(0, i - 2)}", "completion": "same" if i < 3 else f"answer {i}",
     "labeler": "ann" if i < 6 else f"l{i}", "user": f"u{i % 4}"}
    for i in range(10)
]  # fmt: skip


def put(path: Path, rows: list[dict[str, Any]]) -> str:
    formats.write(path, rows)
    return str(path)


def by_name(checks: Any) -> dict[str, preflight.Check]:
    return {check.name: check for check in checks}


def test_demonstrations_by_hand(tmp_path: Path) -> None:
    """Two of ten repeat one (at most one may), ann wrote six (at most five), p0 and u0 are held out too."""
    data = put(tmp_path / "demos.jsonl", DEMOS)
    held = put(tmp_path / "held.jsonl", [DEMOS[0], {"prompt": "new", "completion": "x", "user": "u9"}])
    found = by_name(preflight.of_demonstrations(data, held))
    assert {name: check.passed for name, check in found.items()} == {
        "repeated demonstrations": False, "demonstrations of one labeler": False,
        "shared prompts": False, "shared users": False,
    }  # fmt: skip
    assert found["repeated demonstrations"].figure == f"2 of 10 in {data} (20%)"
    assert found["demonstrations of one labeler"].figure == f"6 of 10 in {data} (60%)"
    assert found["shared prompts"].figure == f"1 of {held} are also in {data}"
    good = put(tmp_path / "good.jsonl", DEMOS[4:8])
    assert all(check.passed for check in preflight.of_demonstrations(good, None))
    other = put(tmp_path / "other.jsonl", [{"prompt": "q", "completion": "y", "user": "u9"}])
    assert all(check.passed for check in list(preflight.of_demonstrations(good, other))[2:])


def valid(rate: float, low: float | None, longer: float) -> dict[str, Any]:
    return {"valid": {"accuracy": {"rate": rate, "low": low}, "longer_wins": {"rate": longer}}}


@pytest.mark.parametrize(
    ("results", "passed"),
    [
        (valid(0.7, 0.62, 0.6), True),
        (valid(0.7, 0.58, 0.6), False),
        (valid(0.7, None, 0.6), False),
        ({}, None),
        (None, None),
    ],
)
def test_the_interval_has_to_clear_longer_wins(results: dict[str, Any] | None, passed: bool | None) -> None:
    made = Manifest.begin("reward", RewardConfig(model="m", data="d"), {}, {}) if results is not None else None
    if made is not None:
        made.results = results or {}
    check = preflight._beats_length("runs/rm", made)
    assert check.passed is passed
    assert check.remedy.startswith("Hold out rankings" if "(no interval)" in check.figure else "Collect more rankings")
    assert (check.figure == "not a run, so its training is unknown") == (made is None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reward model whose run names its training data and an accuracy that does not clear length."""
    root = tmp_path_factory.mktemp("rm")
    rows = [row | {"prompt": f"Say {word} {i}"} for i, row in enumerate(worlds.rankings(60)) for word in ("red",)]
    data = worlds.write(root / "rankings.jsonl", rows)
    load.save(tiny.reward(), tiny.tokenizer(), root / "run" / "model")
    manifest = Manifest.begin("reward", RewardConfig(model="m", data=data), {}, {"data": formats.fingerprint(data)})
    manifest.results = valid(0.7, 0.5, 0.6)
    manifest.write(root / "run" / "manifest.json")
    return str(root / "run")


def test_prompts_far_from_those_of_the_reward_model(run: str) -> None:
    reward = open_reward([run], compute=Compute(), device="cpu")
    near = [Prompt(prompt=f"Say red {i}") for i in range(100, 160)]
    far = [Prompt(prompt="?!" * (3 + i % 20)) for i in range(60)]
    name = f"prompts far from those of {run}"
    assert by_name(preflight.of_rewards(reward, near))[name].passed is True
    assert by_name(preflight.of_rewards(reward, far))[name].passed is False
    few = by_name(preflight.of_rewards(reward, near[:5]))[name]
    assert few.passed is None
    assert "fewer than 20" in few.figure


D = [0.5, 1.0, 2.0, 4.0, 5.0]
CURVES: dict[str, Any] = {
    "peak": lambda d: d * (2 - math.log(d)),  # at d = e, which is 7.39 nats
    "rises": lambda d: d,
    "falls": lambda d: -d,
}


def watched(path: Path, config: PPOConfig, curve: str, *, steps: int = len(D)) -> str:
    """A run whose watched reward is a curve over √KL, a little higher or lower for each of twelve prompts."""
    path.mkdir()
    parents = {"reward.0": parent(config.reward[0])}
    Manifest.begin("ppo", config, parents, {}).write(path / "manifest.json")
    worlds.write(path / "metrics.jsonl", [{"step": i, "watch/kl": d * d} for i, d in enumerate(D[:steps])])
    worlds.write(path / "watched.jsonl", [
        {"step": i, "question": k, "prompt": f"p{k}", "completion": "x", "proxy": 0.0,
         "watch": {"gold": 3 + (0.9 + 0.2 * k / 11) * CURVES[curve](d) + 0.01 * (k - 5.5) * d}}
        for i, d in enumerate(D[:steps]) for k in range(12)
    ])  # fmt: skip
    return str(path)


@pytest.mark.parametrize(
    ("curve", "budget", "passed", "bound"),
    [
        ("peak", {"kl_ceiling": 7.3, "kl_target": 9.0}, True, "at most 7.39 nats ("),
        ("peak", {"kl_ceiling": 7.5}, False, "at most 7.39 nats ("),
        ("peak", {"kl_target": 7.5}, False, "at most 7.39 nats ("),
        ("peak", {}, False, "at most 7.39 nats ("),
        ("falls", {"kl_ceiling": 0.5}, False, "at most 0 nats"),
        ("rises", {"kl_ceiling": 25.0}, True, "no peak of gold in "),
        ("rises", {"kl_ceiling": 25.5}, None, "no peak of gold in "),
        ("rises", {}, None, "no peak of gold in "),
    ],
)
def test_a_kl_budget_past_the_peak_of_an_earlier_run(
    files: Files, tmp_path: Path, curve: str, budget: dict[str, float], passed: bool | None, bound: str
) -> None:
    earlier = watched(tmp_path / "earlier", worlds.config("ppo", files), curve)
    (check,) = of_budget(worlds.config("ppo", files, peak_from=earlier, **budget))
    assert check.passed is passed
    assert check.bound.startswith(bound)
    shown = budget.get("kl_ceiling", budget.get("kl_target"))
    figure = f"{shown:.3g} nats an answer" if shown else "no kl_ceiling or kl_target"
    if passed is None:  # nothing can be said, and why
        figure += f", and gold in {earlier} has no peak up to the 25 nats that it was measured at"
    assert check.figure == figure


@pytest.mark.medium
def test_a_peak_of_another_reward_or_without_measurements_is_refused(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = worlds.config("ppo", files)
    assert list(of_budget(config)) == []
    shutil.copytree(files.judge, tmp_path / "copy")
    copied = worlds.config("ppo", files, reward=[str(tmp_path / "copy")])
    earlier = watched(tmp_path / "copied", copied, "peak")
    assert len(list(of_budget(worlds.config("ppo", files, peak_from=earlier)))) == 1  # the same weights elsewhere
    short = watched(tmp_path / "short", config, "peak", steps=1)
    other = f"2*{files.judge}"
    for changes, why in (
        ({"peak_from": earlier, "reward": [other]}, "optimised another reward"),
        ({"peak_from": short}, "1 measurements of watched rewards, and a peak needs two"),
        ({"peak_from": files.judge}, "not a run directory"),
    ):
        with pytest.raises(UserError, match=why):
            list(of_budget(worlds.config("ppo", files, **changes)))
    small = {"episodes": 8, "pretrain_data": None}
    with pytest.raises(UserError, match=r"KL budget: no kl_ceiling or kl_target.* Set kl_ceiling"):
        worlds.train("ppo", files, tmp_path / "run", peak_from=earlier, preflight="stop", **small)
    assert f"not checked: accuracy of {files.judge} (not a run, so its training is unknown), " in capfd.readouterr().err
    worlds.train("ppo", files, tmp_path / "run", peak_from=earlier, preflight="off", **small)
    assert "ppo: peak_from is unused with preflight = off" in capfd.readouterr().err


@pytest.mark.medium
def test_preflight_warns_stops_or_is_off(
    files: Files, tmp_path: Path, run: str, capfd: pytest.CaptureFixture[str]
) -> None:
    small = {"reward": [run], "episodes": 8, "pretrain_data": None}
    warned = worlds.train("ppo", files, tmp_path / "warn", **small)
    said = capfd.readouterr().err
    assert f"ppo: preflight: accuracy of {run}: 70.0% (at least 50.0%), and the bound is above" in said
    kept = read_json(warned / "manifest.json")["preflight"]
    assert (kept[0]["name"], kept[0]["passed"]) == (f"accuracy of {run}", False)
    assert set(kept[0]) == {"name", "figure", "bound", "passed", "remedy"}
    with pytest.raises(UserError, match=r"accuracy of .* Or go on with preflight = warn"):
        worlds.train("ppo", files, tmp_path / "stop", preflight="stop", **small)
    assert not (tmp_path / "stop").exists()
    off = worlds.train("ppo", files, tmp_path / "off", preflight="off", **small)
    assert "preflight" not in json.loads((off / "manifest.json").read_text())


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_preflight_of_offline_stages_stops_before_the_first_step(files: Files, tmp_path: Path, stage: str) -> None:
    data = files.demos if stage == "sft" else files.rankings
    held = {"valid_data" if stage == "sft" else "eval_data": data}
    with pytest.raises(UserError, match=r"shared prompts: 24 of .*Split by prompt"):
        worlds.train(stage, files, tmp_path / "run", preflight="stop", **held)
    assert not (tmp_path / "run").exists()


def test_a_file_that_a_check_reads_too_is_remarked_on_once(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [json.loads(line) | {"mood": "glad"} for line in Path(files.demos).read_text().splitlines()]
    path = worlds.write(tmp_path / "demos.jsonl", rows)
    worlds.train("sft", files, tmp_path / "run", data=path, epochs=1, pretrain_data=None)
    assert [record.getMessage() for record in caplog.records if "mood" in record.getMessage()] == [
        f"{path}: read as demonstrations. Fields that heedful does not use: mood"
    ]
