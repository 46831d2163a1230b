"""`heedful round demo`: its plan, its page, what it refuses, and a tiny run with real servers."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heedful import cli
from heedful.config import UserError
from heedful.feedback.collected import Exchange
from heedful.feedback.schema import Item
from heedful.feedback.store import Store
from heedful.maths.statistics import Interval
from heedful.reproduce.parts import Figures, Ledger, Part
from heedful.reproduce.rounds import branches, page, plan, servers


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["round", *arguments])
    return int(left.value.code or 0)


def test_the_plan_has_rounds_and_comparisons_of_each_seed(tmp_path: Path) -> None:
    def names(*only: str) -> list[list[str]]:
        made = plan.plan(tmp_path, tmp_path / "parts", [1, 2], 3, only, print, quick=True)
        return [[part.name for part in parts] for parts in made.values()]

    rounds = ["start", "round-1", "round-2", "round-3"]
    assert names() == [rounds + ["frozen", "last", "topics", "careless", "thumbs"]] * 2
    assert names("rounds") == [rounds] * 2
    assert names("thumbs") == [rounds + ["thumbs"]] * 2
    one, two = (plan.parts(seed, 3, ["last"], print, quick=False) for seed in (1, 2))
    assert not {part.hash for part in one} & {part.hash for part in two}
    assert sum(part.minutes for part in one[:4]) <= 60
    assert all(part.minutes <= 30 for part in one)
    with pytest.raises(UserError, match=r"--only lost: no such part\. Choose from rounds, frozen, last"):
        names("lost")
    with pytest.raises(UserError, match="names a seed twice"):
        plan.plan(tmp_path, tmp_path, [1, 1], 3, [], print, quick=True)


def test_options_belong_to_their_actions(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["run", "--out", "x"], "--out: `heedful round run` does not use it"),
        (["demo", "--out", "x", "--folder", "y"], "--folder: `heedful round demo` does not use it"),
        (["status", "3"], "3: does not belong to an option"),
        (["demo"], "--out is missing"),
    ):
        assert call(*arguments) == 2
        assert told in capsys.readouterr().err


def rate(value: float, width: float = 0.1) -> dict[str, Any]:
    return {"rate": value, "low": value - width, "high": value + width, "n": 40}


def on(value: float) -> dict[str, Any]:
    return {name: rate(value) for name in ("all prompts", "old topics", "new topics")}


def planned(folder: Path, figures: dict[int, dict[str, Figures]]) -> dict[Ledger, list[Part]]:
    """A plan of four parts for each seed, of which those with figures have run."""
    found = {}
    for seed, own in figures.items():
        parts = [Part(name, 1.0, seed, {}, lambda *_: {}) for name in ("round-1", "round-2", "frozen", "careless")]
        ledger = Ledger(folder / "work", folder / f"seed-{seed}")
        ledger.records.mkdir(parents=True)
        for part in parts:
            if part.name in own:
                record = {"config_hash": part.hash, "figures": own[part.name]}
                (ledger.records / f"{part.name}.json").write_text(json.dumps(record), "utf-8")
        found[ledger] = parts
    return found


def test_the_page_says_what_helped_and_what_has_not_run(tmp_path: Path) -> None:
    gate = {"outcome": "keep", "reasons": ["wins 49.0%"], "win": rate(0.49)}
    own = {
        "wins": {"SFT": on(0.7)}, "gate": gate, "traffic": {"requests": 1200, "refused": 240}, "prompts": 600,
        "stored_of_refusing": 0, "spent": {"labels": 900, "labeler_seconds": 7200.0, "compute_seconds": 60.0},
    }  # fmt: skip
    second = own | {"wins": {"SFT": on(0.72), "the round before": on(0.55)}}
    frozen = {"wins": on(0.3), "plain": {"kl": 9.0}, "changed": {"kl": 8.25}}
    frozen |= {"kl_coefs": [0.02, 0.0312], "tried": [[0.02, 14.0], [0.0312, 8.3]]}
    left_out = {"left_out": "there is no round 2"}
    made = planned(
        tmp_path, {1: {"round-1": own, "round-2": second, "frozen": frozen}, 2: {"round-1": own, "careless": left_out}}
    )
    text = page.write(tmp_path, made, 2, "heedful round demo", quick=False).read_text("utf-8")
    assert "| a | round 1 over SFT | 70.0% (60.0% to 80.0%) | 70.0% (60.0% to 80.0%) | 70.0% ± 0.0 | better |" in text
    assert "| c | round 2 over round 1 | 55.0% (45.0% to 65.0%) | not run | 55.0% | no difference shown |" in text
    assert "at equal KL | 30.0% (20.0% to 40.0%) | not run | 30.0% | worse |" in text
    assert "| 1 | 1 | 1,200 | 240, 0 | 600 | 900 | 2 h 0 min | 1 min 0 s | keep: wins 49.0% |" in text
    assert (
        "- seed 1, frozen: KL from SFT 8.2 nats, 9.0 in the plain round (`kl_coef = 0.0312`, of 2 tried; 0.02 in"
        in text
    )
    assert "so their figures are missing:\n\n- seed 1: careless\n- seed 2: round-2, frozen\n" in text
    assert "quick run" not in text
    (tmp_path / "seed-1" / "frozen.json").write_text('{"config_hash": "x", "figures": {}}', "utf-8")
    again = page.write(tmp_path, made, 2, "heedful round demo", quick=True).read_text("utf-8")
    assert "- seed 1: frozen (its record has other settings), careless\n" in again
    assert "This is a quick run" in again
    assert "alerts ignored | not run | left out | – | – |" in again
    table = (tmp_path / "rounds" / "001-win-rate-by-the-truth.csv").read_text("utf-8").splitlines()
    assert [row[:3] for row in list(csv.reader(table))[1:3]] == [["seed 1", "a", "70.0"], ["seed 1", "b", "72.0"]]


def test_a_verdict_needs_the_intervals_of_all_seeds() -> None:
    better, worse, open_ = Interval(0.6, 0.51, 0.7, 9), Interval(0.4, 0.3, 0.49, 9), Interval(0.6, None, None, 9)
    assert page.verdict([better, better]) == "better"
    assert page.verdict([worse]) == "worse"
    assert page.verdict([better, worse]) == page.verdict([better, open_]) == "no difference shown"
    assert page.verdict([]) == "–"


def test_the_coefficient_for_an_equal_kl() -> None:
    """KL = 0.08 / coef, then KL = 0.4 / coef**0.5, then two tries that say nothing."""
    assert branches.next_coef([(0.01, 8.0)], 4.0) == pytest.approx(0.02)
    assert branches.next_coef([(0.01, 4.0), (0.04, 2.0)], 1.0) == pytest.approx(0.16)
    assert branches.next_coef([(0.01, 4.0), (0.04, 4.0)], 2.0) == pytest.approx(0.32)  # no more than eight times
    assert branches.next_coef([(0.01, 0.0)], 4.0) == pytest.approx(0.00125)


@pytest.mark.slow
def test_a_tiny_run_with_real_servers_and_its_rerun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, python: Path
) -> None:
    monkeypatch.setattr(servers.sys, "executable", str(python))
    out = tmp_path / "out"
    arguments = ["demo", "--out", str(out), "--quick", "--rounds", "2", "--only", "rounds", "--only", "thumbs"]
    assert call(*arguments) == 0
    assert "seed-1: Parts to run: 4" in capsys.readouterr().err
    records = {path.stem: json.loads(path.read_text("utf-8")) for path in (out / "docs/rounds/parts/seed-1").iterdir()}
    assert records.keys() == {"start", "round-1", "round-2", "thumbs"}
    figures = {name: record["figures"] for name, record in records.items()}
    assert figures["start"]["refusing"] == 8
    server = next((out / "seed-1").glob("round-2-*")) / "server"
    with closing(Store.open(server / "heedful.db", create=False)) as store, store.reading() as db:
        kept = db.scalar(sa.select(sa.func.count()).select_from(Exchange))
        labels = db.scalar(sa.select(sa.func.count()).select_from(Item).where(Item.source == "round-002"))
    traffic = [figures[name]["traffic"] for name in ("round-1", "round-2")]
    assert all(one["refused"] > 0 and one["thumbs"] > 0 for one in traffic)
    assert kept == sum(one["kept"] for one in traffic)
    assert [figures[name]["stored_of_refusing"] for name in ("round-1", "round-2")] == [0, 0]
    assert labels == figures["round-2"]["prompts"] + 12 == 28  # ranked, and pairs of the gate
    assert figures["round-2"]["spent"]["labels"] >= 28
    assert figures["thumbs"]["choices"] > 0
    assert "round 2 over round 1" in (out / "docs/round-demo.md").read_text("utf-8")

    page_before = (out / "docs/round-demo.md").read_bytes()
    shutil.rmtree(out / "seed-1")
    assert call(*arguments) == 0
    assert "Parts to run: 0" in capsys.readouterr().err
    assert (out / "docs/round-demo.md").read_bytes() == page_before
