"""`heedful snapshot` and `heedful lineage`, from the command line to what they print."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from heedful import terminal
from heedful.cli import app
from heedful.data import formats
from heedful.data.records import Comparison
from heedful.feedback import snapshots
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


@pytest.mark.medium
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
    assert (found["snapshots"][0]["judgements"], found["runs"]) == (1, [])


@pytest.mark.medium
def test_filters_are_settings(heedful: Heedful, team: Team, tmp_path: Path) -> None:
    (tmp_path / "only.toml").write_text('records = "comparison"\nlabelers = ["bob"]\n')
    code, out, _ = heedful("snapshot", "--config", "only.toml", "--out", "bobs")
    assert (code, out.splitlines()[2]) == (0, "  rows 1")
    assert heedful("snapshot", "--config", "only.toml", "--set", "labelers=['ada']", "--out", "adas")[0] == 0
    assert {row.labeler for row in formats.read(tmp_path / "adas", Comparison)} == {"ada"}


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["snapshot", "--out", "x"], "--records is missing"),
        (["snapshot", "--records", "opinion", "--out", "x"], "records"),
        (
            ["snapshot", "--records", "choice", "--out", "x"],
            "no row passes the filters. Widen them",
        ),
        (["snapshot", "--records", "choice", "--out", "x", "--project", "coffee"], "no such project. There are: tea"),
        (["snapshot", "--records", "choice", "--out", "x", "--db", "none.db"], "no such database"),
        (["lineage"], "give a run, or --labeler and a name"),
        (["lineage", "runs/rm", "--labeler", "ada"], "give a run, or --labeler and a name"),
        (["lineage", "--labeler", "eve"], "no labeler has this name"),
        (["lineage", "runs/none"], "no manifest.json there or above"),
    ],
)
def test_faults_are_told_in_one_line(heedful: Heedful, team: Team, arguments: list[str], words: str) -> None:
    code, out, err = heedful(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.medium
def test_a_damaged_database_is_one_line(heedful: Heedful, team: Team, tmp_path: Path) -> None:
    path = tmp_path / "heedful.db"
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("pragma wal_checkpoint(truncate)")
        (root,) = file.execute("select rootpage from sqlite_master where name = 'project'").fetchone()
        (size,) = file.execute("pragma page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(content)
    code, out, err = heedful("snapshot", "--records", "comparison", "--out", "ranks")
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert re.match(r"the labelling database is damaged \(.*malformed.*\)\. Restore a backup into a new --db$", line)
    assert not (tmp_path / "ranks").exists()


@pytest.mark.medium
def test_a_database_that_cannot_be_used_is_one_line_and_a_wrong_statement_is_ours(
    heedful: Heedful, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(kind: type[DatabaseError], words: str) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise kind("select 1", (), sqlite3.OperationalError(words))

        monkeypatch.setattr(snapshots, "freeze", fail)

    refuse(OperationalError, "database or disk is full")
    code, _, err = heedful("snapshot", "--records", "comparison", "--out", "ranks")
    assert code == 2
    assert err == (
        "the labelling database cannot be used (database or disk is full). Check that you can reach and write it\n"
    )
    refuse(IntegrityError, "FOREIGN KEY constraint failed")
    with pytest.raises(IntegrityError):
        heedful("snapshot", "--records", "comparison", "--out", "ranks")


@pytest.mark.medium
def test_verify_names_the_first_event_that_was_changed(heedful: Heedful, team: Team) -> None:
    code, out, _ = heedful("verify", "--json")
    assert (code, json.loads(out)["results"]) == (0, {"verified_events": {"tea": 3}})
    with contextlib.closing(sqlite3.connect("heedful.db")) as db, db:
        db.execute("update event set seconds = 7 where id = 2")
        db.execute("update event set seconds = 7 where id = 3")
    told = "project tea, event 2: does not fit its hash. It was changed, or an event before it is missing\n"
    assert heedful("verify") == (2, "", told)
    code, _, error = heedful("backup", "b.db")
    assert (code, "event 2: does not fit its hash" in error, Path("b.db").exists()) == (2, True, False)


@pytest.mark.medium
def test_verify_can_rebuild_the_caches(heedful: Heedful, team: Team) -> None:
    with contextlib.closing(sqlite3.connect("heedful.db")) as db, db:
        db.execute("update item set taken = 5 where id = 1")
    code, out, _ = heedful("verify", "--rebuild")
    assert (code, out.splitlines()) == (0, ["heedful.db", "  verified events, tea 3", "  corrected items, tea 1"])
    assert "corrected items, tea 0" in heedful("verify", "--rebuild")[1]
    assert heedful("backup", "b.db")[:2] == (0, "b.db\n  verified events 3\n")


def test_agreement_of_a_file_and_its_judgements_combined(heedful: Heedful, tmp_path: Path) -> None:
    sides = {"ann": ([0], [1]), "bob": ([0], [1]), "cyd": ([1], [0])}
    rows = [
        Comparison(prompt="P", completions=["x", "y"], ranking=list(tiers), labeler=name, group=name[0])
        for name, tiers in sides.items()
    ]
    formats.write("ranks.jsonl", rows)
    code, out, _ = heedful("agreement", "ranks.jsonl", "--out", "one.jsonl", "--json")
    found = json.loads(out)["results"]
    assert (code, found["judgements"], found["same_preference"]["n"]) == (0, 3, 3)
    assert found["same_preference"]["rate"] == pytest.approx(1 / 3)
    (one,) = formats.read("one.jsonl", Comparison)
    assert (one.ranking, one.labeler, one.row()["judgements"]) == ([[0], [1]], None, 3)
    assert heedful("agreement", "ranks.jsonl", "--group", "c", "--out", "c.jsonl")[0] == 0
    assert formats.read("c.jsonl", Comparison)[0].ranking == [[1], [0]]
    for arguments, words in (
        (["ranks.jsonl", "--group", "d"], "no row with a labeler"),
        (["ranks.jsonl", "--out", "one.jsonl"], "one.jsonl: already exists"),
        (["one.jsonl"], "no row with a labeler"),
    ):
        code, _, error = heedful("agreement", *arguments)
        assert (code, words in error) == (2, True), error
