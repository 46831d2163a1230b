"""Curves of runs, from their metrics files."""

from __future__ import annotations

import json
from pathlib import Path

from heedful.files import rows_of
from heedful.report.curves import other_charts, over_optimisation, stage_charts, watched


def write(path: Path, rows: list[dict[str, float]]) -> Path:
    path.mkdir()
    (path / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i, row in enumerate(rows)))
    return path


def test_ppo_runs_share_axes_and_keep_their_colours(tmp_path: Path) -> None:
    plain = write(tmp_path / "ppo", [{"score": 1.0, "kl": 0.0}, {"score": 2.0, "kl": 4.0}])
    mixed = write(tmp_path / "ptx", [{"score": 1.0, "kl": 0.0, "ptx_loss": 0.8}, {"score": 1.5, "kl": 1.0}])
    found = {c.title: c for c in stage_charts("ppo", {"PPO": plain, "PPO-ptx": mixed})}
    assert list(found) == ["Score", "KL from the start", "Loss on mixed-in text"]
    assert [(s.name, s.x, s.y, s.colour) for s in found["Score"].series] == [
        ("PPO", [1, 2], [1.0, 2.0], 0),
        ("PPO-ptx", [1, 2], [1.0, 1.5], 1),
    ]
    assert [(s.name, s.x, s.colour) for s in found["Loss on mixed-in text"].series] == [("PPO-ptx", [1], 1)]
    price = over_optimisation({"PPO": plain, "PPO-ptx": mixed})
    assert price is not None
    assert [s.x for s in price.series] == [[0.0, 2.0], [0.0, 1.0]]  # the root of the KL
    assert [s.y for s in price.series] == [[1.0, 2.0], [1.0, 1.5]]


def test_one_run_shows_training_and_held_out_in_one_chart(tmp_path: Path) -> None:
    run = write(
        tmp_path / "rm",
        [{"pair_loss": 0.7, "accuracy": 0.5}, {"pair_loss": 0.6, "accuracy": 0.6, "valid_accuracy": 0.7}],
    )
    loss, accuracy = stage_charts("reward", {"rm": run})
    assert [s.name for s in loss.series] == ["training"]
    assert [(s.name, s.x, s.y) for s in accuracy.series] == [("training", [1, 2], [0.5, 0.6]), ("held out", [2], [0.7])]
    assert accuracy.levels == [("chance", 0.5)]
    two = stage_charts("reward", {"rm": run, "other": run})
    assert [c.title for c in two] == ["Ranking loss", "Ranking accuracy, training", "Ranking accuracy, held out"]


def test_other_metrics_are_found_and_odd_rows_are_not(tmp_path: Path) -> None:
    run = write(tmp_path / "sft", [{"loss": 1.0, "lr": 0.1}, {"loss": 0.9, "lr": 0.05}])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": NaN, "note": "x"}\n[1]\n{"step": 3, "lo')
    assert len(rows_of(run / "metrics.jsonl")) == 3
    assert [c.title for c in other_charts("sft", {"sft": run})] == ["lr"]
    assert stage_charts("sft", {"sft": run})[0].series[0].y == [1.0, 0.9]
    assert stage_charts("sft", {"sft": tmp_path / "nowhere"}) == []
    assert over_optimisation({"sft": run}) is None


def test_what_is_watched_is_drawn_over_the_root_of_the_kl(tmp_path: Path) -> None:
    rows = [
        {"score": 1.0, "kl": 0.0, "watch/kl": 1.0, "watch/proxy": 2.0, "watch/gold": 5.0},
        {"score": 1.0, "kl": 0.0},
        {"score": 1.0, "kl": 0.0, "watch/kl": 4.0, "watch/proxy": 2.5, "watch/gold": 4.0},
    ]
    chart = watched({"ppo": write(tmp_path / "ppo", rows)})
    assert chart is not None
    assert [(s.name, s.x, s.y) for s in chart.series] == [
        ("the reward", [1.0, 2.0], [0.0, 0.5]),
        ("gold", [1.0, 2.0], [0.0, -1.0]),
    ]
    assert watched({"sft": write(tmp_path / "sft", [{"loss": 1.0}])}) is None
