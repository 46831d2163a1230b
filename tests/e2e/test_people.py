"""From what people say in the store to what the training half makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedback.team import Team
from heedful.configs.evaluate import EvaluateConfig
from heedful.data.records import Answer
from heedful.evaluation.evaluate import run as evaluate
from heedful.feedback import snapshots
from heedful.feedback.judgements import Versus
from heedful.feedback.snapshots import Filters
from heedful.feedback.store import Store
from heedful.files import read_json
from stages import worlds
from stages.worlds import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return worlds.make(tmp_path / "world")


@pytest.fixture
def team(tmp_path: Path) -> Team:
    team = Team(Store.open(tmp_path / "heedful.db"))
    for name, group in (("ada", "north"), ("ben", "south")):
        team.join(name, group=group)
    return team


def freeze(team: Team, path: Path, kind: Any, **filters: Any) -> str:
    return snapshots.freeze(team.store, team.project, path, Filters(records=kind, **filters), team.now, by=None).path


@pytest.mark.medium
def test_reward_training_is_limited_to_a_group_of_a_snapshot(team: Team, files: Files, tmp_path: Path) -> None:
    team.rankings(12, K=4)
    for turn in range(12):
        name = ("ada", "ben")[turn % 2]
        order = [[0], [1], [2], [3]] if name == "ada" else [[3], [2], [1], [0]]
        team.submit(name, team.task(name), {"ranking": order})
    everybody = freeze(team, tmp_path / "everybody", "comparison")
    north = freeze(team, tmp_path / "north", "comparison", groups=("north",))
    small: dict[str, Any] = {"demonstrations": None, "eval_data": files.rankings}
    limited = worlds.train("reward", files, tmp_path / "limited", data=everybody, groups={"north": 1.0}, **small)
    alone = worlds.train("reward", files, tmp_path / "alone", data=north, **small)
    both = worlds.train("reward", files, tmp_path / "both", data=everybody, **small)
    assert worlds.hashes(limited) == worlds.hashes(alone) != worlds.hashes(both)
    counted = read_json(limited / "manifest.json")["results"]
    assert (counted["rankings"], counted["other_groups"]) == (6, 6)


@pytest.mark.medium
def test_peoples_choices_become_a_win_rate(team: Team, tmp_path: Path) -> None:
    """Ada prefers PPO's answer on three prompts of four and sees no difference on the last: 3.5 of 4."""
    rows = [
        Versus(prompt=f"Q{i}?", a=Answer(text=f"{i}, moved", model="ppo"), b=Answer(text=f"{i}", model="sft"))
        for i in range(4)
    ]
    team.add("choice", rows, "evaluate")
    for turn in range(4):
        task = team.task("ada")
        better = next(place for place, text in enumerate(task.completions) if text.endswith("moved"))
        team.submit("ada", task, {"preferred": "tie" if turn == 3 else "ab"[better]})
    path = freeze(team, tmp_path / "choices", "choice", purposes=("evaluate",))
    (found,) = evaluate(EvaluateConfig(model=["sft", "ppo"], judge=[str(path)]))["judges"].values()
    assert found["win_rates"]["ppo"]["rate"] == 3.5 / 4
    assert (found["prompts"], found["labelers"]) == (4, 1)
