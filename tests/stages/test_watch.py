"""Watched rewards: what is measured and when, the alarm by hand, the best checkpoint, and a resume bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from heedful.config import UserError
from heedful.files import read_json, rows_of
from heedful.learning.watching import alarm_of, remarks
from heedful.runs.run import metrics
from heedful.training.stage_run import StageRun
from stages import worlds
from stages.turns import LETTER
from stages.worlds import Files

RISING, FALLING = f"{__name__}:rising", f"{__name__}:falling"
SMALL: dict[str, Any] = {"pretrain_data": None, "watch_prompts": 10}
calls = itertools.count()


def rising(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward that is higher each time."""
    return [float(next(calls))] * len(completions)


def falling(prompts: list[Any], completions: list[str]) -> list[float]:
    """A reward that is lower each time."""
    return [-float(next(calls)) + 0.01 * i for i in range(len(completions))]


def measured(proxies: list[float], watch: list[list[float]]) -> list[dict[str, Any]]:
    return [
        {"step": 9 + 10 * i, "proxy": proxy, "scores": {"gold": scores}}
        for i, (proxy, scores) in enumerate(zip(proxies, watch, strict=True))
    ]


PROMPTS = [f"p{i}" for i in range(12)]
HIGH, MIDDLE = [1.0 + 0.01 * i for i in range(12)], [0.5 + 0.02 * i for i in range(12)]
LOW = [0.2 + 0.01 * (i % 2) for i in range(12)]
NOISY = [1.0 + 9 * (-1) ** i - 0.1 for i in range(12)]


def test_the_alarm_by_hand() -> None:
    rises = [1.0, 2.0, 3.0]
    alarm = alarm_of(measured(rises, [HIGH, MIDDLE, LOW]), PROMPTS)
    assert alarm is not None
    assert alarm.startswith(
        "over-optimisation: from iteration 10 to 30 the reward rises from 1 to 3, and gold falls by 0.85 (0.8"
    )
    assert alarm_of(measured(rises[:2], [HIGH, LOW]), PROMPTS) is None
    assert alarm_of(measured([1.0, 2.0, 2.0], [HIGH, MIDDLE, LOW]), PROMPTS) is None
    assert alarm_of(measured(rises, [HIGH, LOW, MIDDLE]), PROMPTS) is None
    wide = [[1.0] * 12, [0.95] * 12, NOISY]
    assert alarm_of(measured(rises, wide), PROMPTS) is None  # falls by 0.1 on average, one up and one down
    assert alarm_of(measured(rises, [[3.0] * 12, [2.0] * 12, [1.0] * 12]), PROMPTS) is not None
    assert alarm_of(measured(rises, [HIGH, MIDDLE, LOW]), ["p"] * 12) is None  # one prompt
    assert alarm_of(measured([9.0, *rises], [LOW, HIGH, MIDDLE, LOW]), PROMPTS) is not None


@pytest.mark.parametrize(
    ("changes", "prompts", "told"),
    [
        ({"on_alarm": "stop", "watch_prompts": 10}, 0, ["watch_prompts is unused without watch",
                                                        "on_alarm is unused without watch"]),
        ({"watch_every": 3}, 0, ["watch_every is unused without watch"]),
        ({}, 0, []),
        ({"watch": [LETTER]}, 10, ["no alarm can go off: it takes 3 measurements, and this run makes 2. Lower "
                                   "watch_every, or raise episodes"]),
        ({"watch": [LETTER], "watch_every": 3}, 9, ["no alarm can go off: it takes 10 different prompts, and "
                                                    "this run watches 9"]),
        ({"watch": [LETTER], "watch_every": 3}, 10, []),
        ({"watch": [LETTER], "watch_every": 3, "reward": [f"2*{LETTER}"]}, 10, [
            f"{LETTER} is watched and optimised too, so it cannot show over-optimisation. Watch another reward"]),
    ],
)  # fmt: skip
def test_watch_settings_that_do_nothing_are_named(
    files: Files, changes: dict[str, Any], prompts: int, told: list[str]
) -> None:
    assert remarks(worlds.config("ppo", files, **changes), [f"p{i}" for i in range(prompts)] * 2) == told


@pytest.mark.medium
def test_when_and_on_how_many_prompts_it_measures(files: Files, tmp_path: Path) -> None:
    run = worlds.train("ppo", files, tmp_path / "run", watch=[LETTER], watch_every=2, **SMALL)
    rows = metrics(run)
    assert [row["step"] for row in rows if "watch/proxy" in row] == [0, 1, 3]
    assert all(abs(row["watch/kl"]) > 1e-4 for row in rows if "watch/kl" in row)
    state = read_json(sorted((run / "checkpoints").glob("step-*"))[-1] / "state.json")
    assert [len(one["scores"][LETTER]) for one in state["watched"]] == [10] * 3
    kept = state["watched"][-1]
    assert rows[-1][f"watch/{LETTER}"] == pytest.approx(sum(kept["scores"][LETTER]) / 10, abs=1e-6)
    stored = rows_of(run / "watched.jsonl")
    assert [(row["step"], row["question"]) for row in stored] == [(step, i) for step in (0, 1, 3) for i in range(10)]
    assert [row["watch"][LETTER] for row in stored[-10:]] == pytest.approx(kept["scores"][LETTER], abs=1e-6)
    assert [row["watch"][LETTER] for row in stored] == pytest.approx(
        worlds.count_e([], [row["completion"] for row in stored]), abs=1e-6
    )
    assert sum(row["proxy"] for row in stored[-10:]) / 10 == pytest.approx(rows[-1]["watch/proxy"], abs=1e-5)
    assert len({row["prompt"] for row in stored}) == 10
    more = worlds.train("ppo", files, tmp_path / "more", watch=[LETTER], episodes=8, **(SMALL | {"watch_prompts": 64}))
    (step,) = (more / "checkpoints").glob("step-*")
    assert len(read_json(step / "state.json")["watched"][0]["scores"][LETTER]) == 20  # all there are


@pytest.mark.medium
def test_watched_rewards_are_logged_and_change_nothing(files: Files, tmp_path: Path) -> None:
    plain = worlds.train("ppo", files, tmp_path / "plain", **SMALL)
    watch = [files.judge, f"2*{LETTER}"]
    run = worlds.train("ppo", files, tmp_path / "run", watch=watch, watch_every=1, **SMALL)
    assert worlds.hashes(plain) == worlds.hashes(run)
    rows = metrics(run)
    assert [{k: v for k, v in row.items() if not k.startswith("watch/")} for row in rows] == metrics(plain)
    # the judge is also the reward, on the same answers
    assert [row[f"watch/{files.judge}"] for row in rows] == pytest.approx([row["watch/proxy"] for row in rows])
    assert rows[0][f"watch/2*{LETTER}"] >= 0
    manifest = read_json(run / "manifest.json")
    assert "watch.0" in manifest["parents"]
    assert manifest["results"]["alarm"] is None
    best = max(range(4), key=lambda i: rows[i][f"watch/{files.judge}"])
    assert manifest["results"]["best_iteration"] == best + 1
    assert (run / "checkpoints" / f"step-{best + 1:08d}").is_dir()
    with pytest.raises(UserError, match=r"names .* twice"):
        worlds.train("ppo", files, tmp_path / "twice", watch=[LETTER, LETTER], **SMALL)


@pytest.mark.medium
@pytest.mark.parametrize("on_alarm", ["warn", "stop"])
def test_the_alarm_warns_or_stops_with_the_best_checkpoint(
    files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str], on_alarm: str
) -> None:
    changes = {"reward": [RISING], "watch": [FALLING], "watch_every": 1, "on_alarm": on_alarm, **SMALL}
    run = worlds.train("ppo", files, tmp_path / "run", **changes)
    rows, results = metrics(run), read_json(run / "manifest.json")["results"]
    assert len(rows) == (3 if on_alarm == "stop" else 4)
    said = capfd.readouterr().err
    assert "ppo: over-optimisation: from iteration 1 to 3 the reward rises" in said
    assert results["alarm"].startswith("over-optimisation: from iteration 1 to 3")
    assert results["best_iteration"] == 1
    best = load_file(run / "checkpoints" / "step-00000001" / "average.safetensors")
    model = load_file(run / "model" / "model.safetensors")
    same = all(bool((weight == model[name]).all()) for name, weight in best.items() if name in model)
    assert same == (on_alarm == "stop")
    stopped = results["stopped"]
    assert stopped is None if on_alarm == "warn" else stopped.startswith("stopped after iteration 3: over-optimisation")


@pytest.mark.medium
def test_a_resume_measures_bit_for_bit(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"watch": [LETTER], "watch_every": 1, **SMALL}
    whole = worlds.train("ppo", files, tmp_path / "whole", **changes)
    logged = StageRun.log

    def die(self: Any, step: int, *rest: Any, **more: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt
        logged(self, step, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "log", die)
        with pytest.raises(KeyboardInterrupt):
            worlds.train("ppo", files, tmp_path / "run", **changes)
    run = worlds.train("ppo", files, tmp_path / "run", resume=True, **changes)
    assert metrics(run) == metrics(whole)
    assert worlds.hashes(run) == worlds.hashes(whole)
    newest = [sorted((one / "checkpoints").glob("step-*"))[-1] / "state.json" for one in (run, whole)]
    assert read_json(newest[0])["watched"] == read_json(newest[1])["watched"]
    assert (run / "watched.jsonl").read_bytes() == (whole / "watched.jsonl").read_bytes()
