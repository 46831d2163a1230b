"""`heedful overoptimisation`: a tiny run from the world to the page, its rerun, and ensembles in the same world."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from heedful import cli
from heedful.data import formats
from heedful.data.records import Comparison, Completions
from heedful.reproduce import ensembles, ensembles_page, overoptimisation, overoptimisation_page
from heedful.reproduce.parts import Ledger
from heedful.runs.run import Run, metrics
from heedful.sandbox import truth


def call(out: Path, *more: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["overoptimisation", "--out", str(out), "--quick", *more])
    return int(left.value.code or 0)


def record(out: Path, name: str) -> dict:
    found: dict = json.loads((out / "parts" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_a_tiny_run_from_the_world_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path) == 0
    said = capsys.readouterr()
    assert "Parts to run: 5" in said.err
    assert "small, 24 rankings  best of n" in said.out
    names = {path.stem for path in (tmp_path / "parts").iterdir()}
    assert names == {"world", "answers", "body-small", "reward-small-24", "ppo-small-24"}

    best = record(tmp_path, "reward-small-24")["figures"]
    assert best["n"] == [1, 2, 4, 8, 16]
    assert best["distance"][1] == pytest.approx(math.sqrt(math.log(2) - 0.5))
    folder = next((tmp_path / "work").glob("reward-*"))
    judge = truth.world(1)
    rows = formats.read(str(folder / "scored.jsonl"), Completions)
    chosen = [row.completions[row.scores.index(max(row.scores))] for row in rows if row.scores]
    gold = [judge([row.prompt] * 16, row.completions) for row in rows]
    top = [judge([row.prompt], [text])[0] for row, text in zip(rows, chosen, strict=True)]
    expected = fmean(top) - fmean(map(fmean, gold))  # the best of all 16, less a random one
    assert best["gold"][-1]["mean"] == pytest.approx(expected)
    assert best["proxy"][-1] == pytest.approx(fmean(max(row.scores) - fmean(row.scores) for row in rows if row.scores))

    climbed = record(tmp_path, "ppo-small-24")["figures"]
    ran = next((tmp_path / "work").glob("ppo-*")) / "ppo"
    assert climbed["iterations"] == [0, 1, 2]
    assert len(metrics(ran)) == 2
    assert Run.open(ran).manifest.config["kl_coef"] == 0.0
    assert climbed["gold"][0]["mean"] == climbed["distance"][0] == 0.0

    files = {path.suffix for path in (tmp_path / "report_files").iterdir()}
    assert files == {".svg", ".csv"}
    assert "This is a quick run" in (tmp_path / "report.html").read_text(encoding="utf-8")

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert call(tmp_path) == 0
    assert "Parts to run: 0" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    ensembles_in_the_same_world(tmp_path, gold)


def ensembles_in_the_same_world(tmp_path: Path, gold: list[list[float]]) -> None:
    """Parts of `heedful reproduce --only ensembles` after those of `heedful overoptimisation`."""
    parts, said = ensembles.parts(1, quick=True, home="ensembles-1"), list[str]()
    figures = Ledger(tmp_path / "work", tmp_path / "parts").run(parts, said.append)
    assert said[0].startswith("Parts to run: 4,")
    assert figures["members-clean"]["turned"] == 0
    assert figures["members-flipped"]["turned"] == 8  # of 30
    folder = next((tmp_path / "work" / "ensembles-1").glob("members-flipped-*"))
    given = next((tmp_path / "work").glob("world-*")) / "world" / "rankings.jsonl"
    learned = formats.read(str(folder / "rankings.jsonl"), Comparison)
    assert learned == ensembles.turned(formats.read(str(given), Comparison), 0.25, 1)
    rows = formats.read(str(folder / "scored.jsonl"), Completions)
    assert all(len(row.row()["score_parts"]) == 2 for row in rows)
    worst = [[min(pair) for pair in zip(*row.row()["score_parts"].values(), strict=True)] for row in rows]
    top = [own[scores.index(max(scores))] for own, scores in zip(gold, worst, strict=True)]
    best = figures["best-of-n"]["curves"]["flipped"]["worst"]
    assert best["gold"][-1]["mean"] == pytest.approx(fmean(top) - fmean(map(fmean, gold)))
    one = figures["best-of-n"]["curves"]["flipped"]["one"]
    assert figures["best-of-n"]["over_one"]["flipped"]["worst"][-1]["mean"] == pytest.approx(
        best["gold"][-1]["mean"] - one["gold"][-1]["mean"]
    )
    run = Run.open(next((tmp_path / "work" / "ensembles-1").glob("climb-flipped-worst-*")) / "ppo").manifest
    assert run.config["reward"] == [f"min({folder}/reward/members/1,{folder}/reward/members/2)"]
    assert figures["climb-flipped-worst"]["iterations"] == [0, 1]
    assert [row[:3] for row in ensembles_page.rows(figures)][-1] == ["flipped", "worst case", "PPO"]
    assert len(ensembles_page.rows(figures)) == 9


def test_the_plan_has_three_sizes_and_three_numbers_of_rankings() -> None:
    names = [part.name for part in overoptimisation.parts(1)]
    assert sum(name.startswith("reward-") for name in names) == sum(name.startswith("ppo-") for name in names) == 9
    assert len(names) == len(set(names))
    assert all(part.minutes <= 30 for part in overoptimisation.parts(1))
    one, two = overoptimisation.parts(1), overoptimisation.parts(2)
    assert not {part.hash for part in one} & {part.hash for part in two}


def test_the_page_shows_points_fits_and_peaks() -> None:
    fitted = {
        "alpha": {"mean": 2.0, "low": 1.9, "high": 2.1}, "beta": {"mean": 0.5, "low": None, "high": None},
        "words": "peak at √KL 2.00", "peak": None, "line": {"distance": [0.0, 4.0], "gold": [0.0, 0.0]},
    }  # fmt: skip
    gold = [{"mean": 0.0, "low": None, "high": None}, {"mean": 2.0, "low": 1.5, "high": 2.5}]
    curve = {"distance": [0.0, 2.0], "gold": gold, "proxy": [0.0, 3.0], "fit": fitted}
    accuracy = {"accuracy": {"rate": 0.712}}
    figures = {"world": {}, "reward-large-600": {**curve, **accuracy}, "ppo-large-600": {**curve, "fit": None}}
    assert overoptimisation_page.table(figures) == [
        ["large, 600 rankings", "best of n", "peak at √KL 2.00", "71.2 %", "2.00", "2.000 (1.900 to 2.100)",
         "0.500 (too few for an interval)"],
        ["large, 600 rankings", "PPO", "too few distances to fit", "71.2 %", "2.00", "–", "–"],
    ]  # fmt: skip
    charts = overoptimisation_page.charts(figures)
    assert [chart.title for chart in charts] == [
        "best of n, 600 rankings", "best of n, 600 rankings, proxy", "PPO, 600 rankings", "PPO, 600 rankings, proxy",
    ]  # fmt: skip
    points, line = charts[0].series
    assert (points.style, points.intervals) == ("points", [(0.0, 0.0), (1.5, 2.5)])
    assert (line.style, line.x) == ("line", [0.0, 4.0])
    assert len(charts[2].series) == 1
