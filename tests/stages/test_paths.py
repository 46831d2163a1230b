"""The fast path and the plain padded forward train the same model, and a run says which one it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.files import read_json
from stages import worlds
from stages.worlds import Files

ROLES = {"sft": {"model"}, "reward": {"model"}, "ppo": {"policy", "value"}}


@pytest.mark.medium
@pytest.mark.parametrize("stage", ROLES)
def test_fast_and_plain_train_the_same(stage: str, files: Files, tmp_path: Path) -> None:
    small = {"ppo": {"episodes": 16}}.get(stage, {"epochs": 1})
    runs = {
        fast: worlds.train(stage, files, tmp_path / str(fast), compute={"fast": fast}, **small)
        for fast in (True, False)
    }
    for fast, said in ((True, "packed rows"), (False, "padded rows (compute.fast is false)")):
        assert read_json(runs[fast] / "manifest.json")["forward"] == dict.fromkeys(ROLES[stage], said)
    assert worlds.disagreements(runs[True], runs[False]) == []


@pytest.mark.medium
def test_a_family_that_does_not_fit_is_padded_and_the_run_says_so(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heedful.fast import forward

    monkeypatch.setattr(forward, "_unfit", lambda model: "attends in circles")
    run = worlds.train("sft", files, tmp_path / "run", epochs=1)
    assert read_json(run / "manifest.json")["forward"] == {"model": "padded rows (attends in circles)"}
    assert "sft: model computes padded rows (attends in circles)" in capsys.readouterr().err
