"""The load generator in miniature: the server is killed twice under it, and nothing acknowledged is lost."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from web.site import Site

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("labelling_load")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_acknowledged_judgement_is_lost(load: ModuleType, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--database", database, "--labelers", "5", "--items", "2000", "--think", "0", "--seconds", "3"]
    code = load.main([*options, "--faults", "2"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "0 lost, 0 under another event, 0 stored twice" in told
    assert "events fits" in told


@pytest.mark.slow
def test_a_lost_judgement_is_found(
    site: Site, load: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load, "NAME", "tea")
    site.add_rankings(1)
    client = site.script("labeler")
    task = client.post("/api/projects/tea/next").json()["task"]
    answer = {"ranking": [[0], [1], [2]], "ratings": [{"overall": 4}] * 3}
    body = {"answer": answer, "idempotency_key": "the key of it"}
    event = client.post(f"/api/projects/tea/tasks/{task['lease']}/submit", json=body).json()["event"]
    assert load.faults_of(site.store, {"the key of it": event}) == []
    assert load.faults_of(site.store, {"the key of it": event + 1}) == ["1 under another event", "1 not standing"]
    wrong = load.faults_of(site.store, {"the key of it": event, "another key": event + 1})
    assert wrong == ["1 lost", "1 not standing"]
    assert "2 acknowledged, 1 in the database" in capsys.readouterr().out
