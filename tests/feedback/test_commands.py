"""`heedful snapshot` and `heedful lineage`, from the command line to what they print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedful import terminal
from heedful.cli import app
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.feedback.store import Store

from .team import Team
from .test_lineage import run

Heedful = Callable[..., tuple[int, str, str]]


@pytest.fixture
def heedful(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Heedful:
    """Runs a command in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any) -> tuple[int, str, str]:
        code = terminal.run(app, [str(one) for one in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def team(tmp_path: Path) -> Team:
    """ada ranked two items, bob one; the store is `heedful.db`."""
    store = Store.open(tmp_path / "heedful.db")
    team = Team(store, "ada", "bob")
    team.rankings(3)
    team.work("ada", 2)
    team.work("bob")
    store.close()
    return team


def test_from_judgements_to_a_run_and_back(heedful: Heedful, team: Team, tmp_path: Path) -> None:
    code, out, _ = heedful("snapshot", "--records", "comparison", "--out", "ranks", "--json")
    results = json.loads(out)["results"]
    assert (code, results["rows"], results["records"]) == (0, 3, "comparison")
    assert len(formats.read(tmp_path / "ranks", Comparison)) == 3
    run(tmp_path / "runs" / "rm", "reward", {"data": tmp_path / "ranks"})

    code, out, _ = heedful("lineage", "runs/rm")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "runs/rm"
    assert lines[1] == f"  {tmp_path}/ranks: 3 comparison rows, data of runs/rm"
    assert lines[2] == "  3 judgements: ada 2, bob 1"
    assert [line.split("\t")[1:3] for line in lines[3:]] == [["ada", "ranking"], ["ada", "ranking"], ["bob", "ranking"]]
    found = json.loads(heedful("lineage", "runs/rm", "--json")[1])
    assert found["snapshots"][0]["sha256"] == results["sha256"]
    assert found["labelers"] == {"ada": 2, "bob": 1}
    assert len(found["judgements"]) == 3

    assert heedful("lineage", "--labeler", "ada")[1].splitlines() == [
        "ada", f"  {tmp_path}/ranks: 2 of 3 comparison rows", "  runs/rm",
    ]  # fmt: skip
    found = json.loads(heedful("lineage", "--labeler", "bob", "--runs", "nowhere", "--json")[1])
    assert (found["snapshots"][0]["hers"], found["runs"]) == (1, [])


def test_filters_are_settings(heedful: Heedful, team: Team, tmp_path: Path) -> None:
    (tmp_path / "only.toml").write_text('records = "comparison"\nlabelers = ["bob"]\n')
    code, out, _ = heedful("snapshot", "--config", "only.toml", "--out", "bobs")
    assert (code, out.splitlines()[2]) == (0, "  rows 1")
    assert heedful("snapshot", "--config", "only.toml", "--set", "labelers=['ada']", "--out", "adas")[0] == 0
    assert {row.labeler for row in formats.read(tmp_path / "adas", Comparison)} == {"ada"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["snapshot", "--out", "x"], "--records is missing"),
        (["snapshot", "--records", "opinion", "--out", "x"], "records"),
        (["snapshot", "--records", "choice", "--out", "x"], "nothing to freeze, no row passes the filters; widen them"),
        (["snapshot", "--records", "choice", "--out", "x", "--project", "coffee"], "no such project; there are: tea"),
        (["snapshot", "--records", "choice", "--out", "x", "--db", "none.db"], "no such database"),
        (["lineage"], "give a run, or --labeler and a name"),
        (["lineage", "runs/rm", "--labeler", "ada"], "give a run, or --labeler and a name"),
        (["lineage", "--labeler", "eve"], "no labeler of this name"),
        (["lineage", "runs/none"], "no manifest.json there or above"),
    ],
)
def test_faults_are_told_in_one_line(heedful: Heedful, team: Team, arguments: list[str], words: str) -> None:
    code, out, err = heedful(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
