"""`heedful reproduce`: its plan, its page from figures made by hand, and a tiny run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heedful import cli
from heedful.config import UserError
from heedful.data import formats
from heedful.data.records import Demonstration
from heedful.models import load, render
from heedful.reproduce import paper, paper_page


def test_the_plan_has_the_chosen_figures_of_each_seed(tmp_path: Path) -> None:
    def named(*only: str) -> dict[str, list[str]]:
        plan = paper.plan(tmp_path, tmp_path / "parts", [1, 2], only, quick=True)
        return {ledger.work.name: [part.name for part in parts] for ledger, parts in plan.items()}

    assert named("fig1") == {"models-1": ["fig1"], "models-2": ["fig1"]}
    assert named("cost") == {"models-1": ["cost"], "models-2": ["cost"]}
    assert named().keys() == {"models-1", "models-2", "overopt-1", "overopt-2"}
    assert named() == named("fig1", "cost", "overopt")
    with pytest.raises(UserError, match=r"--only fig9: no such figure\. Choose from fig1, cost, overopt"):
        named("fig9")
    with pytest.raises(UserError, match="names a seed twice"):
        paper.plan(tmp_path, tmp_path, [1, 1], [], quick=True)


def rate(value: float) -> dict[str, Any]:
    return {"rate": value, "low": value - 0.1, "high": value + 0.1, "n": 40}


def test_the_page_puts_our_figures_next_to_those_of_the_paper(tmp_path: Path) -> None:
    def figures(better: float) -> dict[str, Any]:
        over_sft = {"PPO over SFT": rate(better), "PPO-ptx over SFT": rate(0.6)}
        below = {"SFT over base": rate(0.8), "SFT over prompted base": rate(0.7), "PPO-ptx over base": rate(better)}
        flops = {"pretrain": 1000.0, "sft": 2.0}
        cost = {"flops": flops, "share": {"pretrain": 1.0, "sft": 0.002}, "labels": {"rankings": 1200}}
        return {"fig1": {"wins": {**over_sft, **below}}, "cost": cost}

    found = {("models", 1): figures(0.7), ("models", 2): figures(0.8)}
    text = paper_page.write(tmp_path, found, "heedful reproduce", quick=False).read_text(encoding="utf-8")
    assert "| PPO-ptx over base | 85 ± 3 % | 75.0 % ± 5.0 | 70.0% (60.0% to 80.0%) | 80.0% (70.0% to 90.0%) |" in text
    assert "| PPO over SFT | – | 75.0 % ± 5.0 |" in text
    assert "| sft | 2.00e+00 | 0.20 % | 0.13 % |" in text
    assert "1,200 rankings" in text
    assert "Not there yet" in text
    assert "quick run" not in text
    table = (tmp_path / "reproduce" / "001-win-rate-over-sft-seed-1.csv").read_text(encoding="utf-8").splitlines()
    _, name, *shares = list(csv.reader(table))[1]
    assert (name, [float(one) for one in shares]) == ("base", pytest.approx([20.0, 10.0, 30.0]))


@pytest.mark.slow
def test_a_tiny_run_and_a_rerun_without_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call() -> str:
        with pytest.raises(SystemExit) as left:
            cli.main(["reproduce", "--out", str(tmp_path / "out"), "--quick", "--only", "fig1", "--only", "cost"])
        assert not left.value.code
        return capsys.readouterr().err

    assert "models-1: Parts to run: 2" in call()
    docs = tmp_path / "out" / "docs"
    parts = {path.stem: json.loads(path.read_text("utf-8")) for path in (docs / "reproduce/parts/models-1").iterdir()}
    assert parts.keys() == {"fig1", "cost"}
    assert len(parts["fig1"]["figures"]["wins"]) == 10

    demo = next((tmp_path / "out" / "models-1").glob("fig1-*")) / "demo"
    model, tokenizer = load.load_policy(demo / "runs" / "sft")
    rows = formats.read(str(demo / "world" / "demonstrations.jsonl"), Demonstration)
    tokens = sum(len(ids) for row in rows for ids in render.answered(tokenizer, row.prompt, row.completion))
    cost = parts["cost"]["figures"]
    assert cost["flops"]["sft"] == 6 * model.num_parameters() * tokens
    assert cost["share"]["sft"] == cost["flops"]["sft"] / cost["flops"]["pretrain"]
    assert cost["flops"]["ppo_ptx"] > cost["flops"]["ppo"] > 0

    page = (docs / "reproduce.md").read_bytes()
    shutil.rmtree(tmp_path / "out" / "models-1")
    assert "Parts to run: 0" in call()
    assert (docs / "reproduce.md").read_bytes() == page
