"""`heedful runs`: the list of a folder, and the comparison of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heedful.cli import main
from heedful.configs.sft import SFTConfig
from heedful.files import Lock, write_json
from heedful.runs.manifest import NAME, Manifest


def _made(
    path: Path, *, lr: float, data: str, status: str = "finished", losses: tuple[float, ...] = (2.5, 1.25)
) -> None:
    path.mkdir(parents=True)
    config = SFTConfig.model_validate({"model": "base", "data": data, "optimiser": {"lr": lr}})
    manifest = Manifest.begin("sft", config, {"model": {"ref": "base"}}, {"data": {"path": data, "sha256": data * 8}})
    manifest.created, manifest.seconds = "2026-11-30T10:00:00+00:00", 185.0
    manifest.record(status)  # type: ignore[arg-type]
    manifest.write(path / NAME)
    rows = [{"step": step, "loss": loss, "valid_loss": loss + 1} for step, loss in enumerate(losses)]
    rows.append({"step": len(losses), "loss": 1.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["runs", *arguments])
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _made(Path("runs/a"), lr=1e-5, data="x.jsonl")
    _made(Path("runs/more/b"), lr=2e-5, data="y.jsonl", losses=(2.0,), status="running")
    Path("runs/elsewhere").mkdir()
    write_json(Path("runs/elsewhere/manifest.json"), {"kind": "not a run"})
    return tmp_path


def test_list_of_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _said(capsys)
    assert (code, out.splitlines()) == (
        0,
        [
            "run          stage  status    started           took       steps  last metrics",
            "runs/a       sft    finished  2026-11-30 10:00  3 min 5 s  3      valid loss 2.25",
            "runs/more/b  sft    killed    2026-11-30 10:00  3 min 5 s  2      valid loss 3",
        ],
    )
    lock = Lock(Path("runs/more/b/.lock"), "busy")
    rows = json.loads(_said(capsys, "runs/more", "--json")[1])
    lock.release()
    assert [(row["status"], row["steps"], row["metrics"]) for row in rows] == [("running", 2, {"valid_loss": 3.0})]


def test_comparison_shows_only_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _said(capsys, "runs/a", "runs/more/b")
    assert (code, out.splitlines()) == (
        0,
        [
            "settings that differ  a        b",
            "data                  x.jsonl  y.jsonl",
            "optimiser.lr          1e-05    2e-05",
            "",
            "inputs that differ  a                               b",
            "data                x.jsonl (sha256 x.jsonlx.jso…)  y.jsonl (sha256 y.jsonly.jso…)",
            "",
            "last metrics  a     b",
            "step          2     1",
            "loss          1     1",
            "valid loss    2.25  3",
        ],
    )
    found = json.loads(_said(capsys, "runs/a", "runs/more/b", "--json")[1])
    assert found["settings"]["optimiser.lr"] == {"a": 1e-5, "b": 2e-5}
    assert found["metrics"]["valid_loss"] == {"a": 2.25, "b": 3.0}


@pytest.mark.parametrize(("path", "said"), [("nowhere", "no such run or folder"), ("empty", "no run in it")])
def test_a_place_without_runs_is_named(folder: Path, capsys: pytest.CaptureFixture[str], path: str, said: str) -> None:
    (folder / "empty").mkdir()
    code, out, err = _said(capsys, path)
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}: {said}")
