"""The report of an evaluation: its tables, twenty prompts by a rule, lineage, and the files of its charts."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from heedful.config import UserError
from heedful.configs.evaluate import EvaluateConfig
from heedful.data import formats
from heedful.evaluation.evaluate import run
from heedful.plots.charts import Chart, Level, Series
from heedful.plots.files import picture, table, write
from heedful.report.comparison import of_folder
from heedful.report.run_report import write_for_runs


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ppo is longer than sft on 30 prompts of 60, equal on 20 and shorter on 10. Another judge likes short answers."""
    (tmp_path / "report_judges.py").write_text(
        "def long(p, completions): return [float(len(c)) for c in completions]\n"
        "def short(p, completions): return [-float(len(c)) for c in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = {"sft": ["xx"] * 60, "ppo": ["xxx"] * 30 + ["xx"] * 20 + ["x"] * 9 + [""]}
    for name, texts in rows.items():
        formats.write(
            tmp_path / f"{name}.jsonl",
            [{"prompt": f"p{i}", "completion": text, "use_case": f"case {i % 2}"} for i, text in enumerate(texts)],
        )
    config = EvaluateConfig(
        model=["sft=sft.jsonl", "ppo=ppo.jsonl"], judge=["report_judges:long", "report_judges:short"]
    )
    run(config, tmp_path / "result")
    return tmp_path / "result"


def test_twenty_prompts_in_the_true_shares(result: Path) -> None:
    """30, 20 and 10 of 60 are 10, 7 and 3 of 20. Judges disagree on all but the ties."""
    found = of_folder("result", result)
    assert [sample.outcome for sample in found.samples] == ["better"] * 10 + ["equal"] * 7 + ["worse"] * 3
    assert found.tally is not None
    assert [found.tally.count(outcome) for outcome in ("better", "equal", "worse")] == [30, 20, 10]
    assert [sample.disputed for sample in found.samples] == [True] * 10 + [False] * 7 + [True] * 3
    assert "seed 0" in found.samples_note
    assert "report_judges:long" in found.samples_note
    assert of_folder("result", result, seed=1).samples != found.samples


def test_flagged_prompts_come_first_within_an_outcome(result: Path) -> None:
    rows = [json.loads(line) for line in (result / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        if row["prompt"] in ("p45", "p47", "p49"):
            row["completions"][1] = "one two " * 10
    formats.write(result / "answers.jsonl", rows)
    for seed in range(3):
        equal = [sample for sample in of_folder("result", result, seed).samples if sample.outcome == "equal"]
        flagged = [sample.answers[1].flags for sample in equal]
        assert flagged == sorted(flagged, key=lambda flags: not flags)
        if ["repeats_itself"] in flagged:
            return
    pytest.fail("no flagged prompt was drawn")


def test_the_page_has_tables_filters_and_files(result: Path, tmp_path: Path) -> None:
    page = write_for_runs([result], tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "66.7 (" in page  # (30 + 10) / 60
    for part in ("Judge report_judges:long", "Judges that decide alike", "By use case", "only flagged or disputed"):
        assert part in page
    files = sorted(path.name for path in (tmp_path / "report_files").iterdir())
    assert files[:2] == ["001-wins-over-sft-by-report-judges-long.csv", "001-wins-over-sft-by-report-judges-long.svg"]
    rows = list(csv.reader((tmp_path / "report_files" / files[0]).read_text().splitlines()))
    assert rows[0] == ["series", "x", "%", "low", "high"]
    assert (rows[1][1], float(rows[1][2])) == ("ppo", pytest.approx(200 / 3))


def test_flags_of_hidden_models_move_nothing(result: Path) -> None:
    """A third model repeats itself on every prompt. The page shows the baseline and the last model."""
    before = of_folder("result", result).samples
    rows = [json.loads(line) for line in (result / "answers.jsonl").read_text().splitlines()]
    for row in rows:
        row["completions"].append("one two " * 10)
        row["models"].append("other")
    formats.write(result / "answers.jsonl", rows)
    found = of_folder("result", result)
    assert [sample.prompt for sample in found.samples] == [sample.prompt for sample in before]
    marks = [sample.marked(found.shown) for sample in found.samples]
    assert marks == [sample.marked() for sample in before]
    assert all(sample.marked() for sample in found.samples)


def test_what_people_judged_is_shown_where_the_answers_are_not_there(result: Path) -> None:
    """A file of people's judgements as the only judge leaves no answers.jsonl, but its verdicts hold the texts."""
    before = of_folder("result", result)
    (result / "answers.jsonl").unlink()
    found = of_folder("result", result)
    assert (found.tally, found.samples_note, found.shown) == (before.tally, before.samples_note, before.shown)
    told = [(one.prompt, one.outcome, [(a.model, a.text) for a in one.answers]) for one in found.samples]
    assert told == [(one.prompt, one.outcome, [(a.model, a.text) for a in one.answers]) for one in before.samples]


def test_a_result_without_its_verdicts_is_one_line(result: Path, tmp_path: Path) -> None:
    (result / "choices.2.jsonl").unlink()
    with pytest.raises(UserError, match=r"choices\.2\.jsonl: is missing from the evaluation"):
        write_for_runs([result], tmp_path / "report.html")


def manifest(path: Path, stage: str, **more: Any) -> Path:
    path.mkdir(parents=True)
    values = {"id": path.name * 4, "stage": stage, "status": "finished", "config": {}, "parents": {}, "data": {}}
    (path / "manifest.json").write_text(json.dumps(values | more))
    return path


def test_lineage_and_checks_of_a_run(tmp_path: Path) -> None:
    data = {"data": {"path": "demos.jsonl", "sha256": "a" * 64, "rows": 1200}}
    sft = manifest(tmp_path / "sft", "sft", parents={"model": {"ref": "hub/base"}}, data=data)
    rows = [
        ("accuracy of rm", "61.0%", "above 63.0%", False, "Label more"),
        ("shared users", "0", "none", True, "Split"),
        ("KL budget", "no run", "9 nats", None, "Name one"),
    ]
    checks = [dict(zip(("name", "figure", "bound", "passed", "remedy"), row, strict=True)) for row in rows]
    ppo = manifest(tmp_path / "ppo", "ppo", parents={"model": {"ref": str(sft)}}, preflight=checks)
    page = write_for_runs([ppo], tmp_path / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", page.partition('<section id="lineage">')[2])
    words = text.split()
    order = [words.index(word) for word in ("ppo", "sft", "hub/base")]
    assert order == sorted(order)
    assert "1,200" in words
    assert "Checks before the start" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page.partition("Checks before the start</h2>")[2])[:12]
    assert cells == ["61.0%", "above 63.0%", "failed", "Label more", "0", "none", "passed", "", "no run", "9 nats",
                     "not checked", "Name one"]  # fmt: skip
    assert "ppo: check before the run failed. accuracy of rm: 61.0%, and the bound is above 63.0%" in page


def chart(title: str = "A < B", y: float = 2.0) -> Chart:
    series = Series("a & b", [0.0, 1.0], [1.0, y], style="points", intervals=[(0.5, 1.5), (1.5, 2.5)])
    return Chart(title, "%", "step", [series], levels=[Level("chance", 1.0)])


def test_a_picture_stands_alone_and_a_table_holds_every_value() -> None:
    drawn = picture(chart())
    assert drawn is not None
    tree = ElementTree.fromstring(drawn)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "A < B, %" in "".join(tree.itertext())
    assert "--c0:" in drawn
    assert table(chart()) == "series,step,%,low,high\na & b,0.0,1.0,0.5,1.5\na & b,1.0,2.0,1.5,2.5\nchance,,1.0,,\n"
    assert picture(Chart("x", "", "", [])) is None


def test_files_of_an_earlier_page_go(tmp_path: Path) -> None:
    write(tmp_path / "files", [chart("one"), chart("two")])
    (tmp_path / "files" / "mine.svg").write_text("")
    write(tmp_path / "files", [chart("two")])
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["001-two.csv", "001-two.svg", "mine.svg"]


def test_public_sets_and_reward_health_have_tables_charts_and_files(tmp_path: Path) -> None:
    share = {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 50}
    moved = {"mean": -0.2, "low": -0.3, "high": -0.1, "n": 50}
    figures = {**share, "above_chance": True, "change": None}
    row = {
        "name": "rte", "title": "RTE", "metric": "accuracy", "better": "high", "items": 50, "left_out": {},
        "chance": 0.75, "chance_is": "the commoner label", "same_items": {},
        "models": {"base": figures, "ppo": {**figures, "mean": 0.5, "above_chance": False, "change": moved}},
        "paper": {"values": [0.563, 0.570, 0.704, 0.668], "says": "no loss"},
    }  # fmt: skip
    benchmark = {
        "models": {"base": "runs/base", "ppo": "runs/ppo"}, "baseline": "base", "data": "sets", "note": "Subsets.",
        "rows": [row], "findings": ["RTE: ppo is worse"], "truthful": {}, "toxicity": None, "not_there": ["drop"],
        "needs_lm_eval": [],
    }  # fmt: skip
    accuracy = {"reward": share, "longer_wins": {**share, "mean": 0.55}, "agreement": None}
    trust = {
        "reward": ["runs/rm"], "data": {"path": "held.jsonl"}, "training_data": None, "accuracy": accuracy,
        "external": {}, "by": {"labeler": {"ann": accuracy, "bob": accuracy}},
        "best_of_k": {"reward": share, "chance": 0.25}, "findings": ["shortcut 'padded'"],
        "calibration": {"error": share, "curve": [{"predicted": 0.6, **share}]}, "distance": {"why": "no reward model"},
        "shortcuts": {"padded": {"in_deviations": moved, "flipped": None}, "flattery": {"why": "no rows"}},
    }  # fmt: skip
    for name, found in (("benchmark", benchmark), ("trust", trust)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text(json.dumps(found))
    page = (
        write_for_runs([tmp_path / "benchmark", tmp_path / "trust"], tmp_path / "report.html")
        .read_text()
        .replace("\N{NO-BREAK SPACE}", " ")
    )
    for part in (
        "~ 0.500 (0.600 to 0.800)", "-0.200 (-0.300 to -0.100)", "0.563 / 0.570 / 0.704 / 0.668", "RTE: ppo is worse",
        "55.0 (60.0 to 80.0)", "Not measured: no reward model.", "-0.20 (-0.30 to -0.10)", "shortcut &#39;padded&#39;",
    ):  # fmt: skip
        assert part in page
    drawn = {path.stem.partition("-")[2] for path in (tmp_path / "report_files").glob("*.svg")}
    assert drawn == {"rte", "accuracy-on-held-out-pairs", "calibration", "accuracy-by-labeler", "shortcuts"}
    rte = next((tmp_path / "report_files").glob("*-rte.csv")).read_text().splitlines()
    assert rte[1:] == ["accuracy,base,0.7,0.6,0.8", "accuracy,ppo,0.5,0.6,0.8", "chance,,0.75,,"]
    (tmp_path / "trust" / "trust.json").write_text("[]")
    with pytest.raises(UserError, match=r"trust\.json: not a result of heedful trust\. Run the command again"):
        write_for_runs([tmp_path / "trust"], tmp_path / "report.html")
