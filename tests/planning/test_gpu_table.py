"""The script that makes the table of speed on a GPU, on the CPU with a tiny model."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from heedful.planning.shapes import shape_of

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu" / "__main__.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(GPU))


@pytest.mark.slow
def test_a_part_is_measured_kept_and_not_done_again(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row that works, one that is unknown: its reason is kept, and the others go on."""
    asked = ["--out", str(tmp_path), "--shapes", "tiny", "--rows", "growth_x", "sft_packed", "--repetitions", "1"]
    script["main"](asked)
    broken, found = (json.loads((tmp_path / f"tiny-{row}.json").read_text()) for row in ("growth_x", "sft_packed"))
    assert "error" in broken
    assert found["ours"] > 0
    assert 0 < found["share_of_matmul"] < 1
    said = capsys.readouterr()
    assert said.err.splitlines() == ["tiny-growth_x ...", "tiny-sft_packed ..."]
    assert f"| tiny-sft_packed | {found['ours']:.3g} tok/s | | |" in said.out  # no TRL was given
    script["main"](asked)
    assert capsys.readouterr().err == ""


def test_time_that_is_over_begins_nothing(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script["main"](["--out", str(tmp_path), "--shapes", "tiny", "--minutes", "0"])
    assert list(tmp_path.iterdir()) == []
    own = {"ours": 2.0, "unit": "episodes/s", "share_of_matmul": 0.25, "peak_mib": 10.0}
    line = script["table"]({"S-ppo_1": own | {"theirs": 1.0, "ratio": 2.0, "peer_peak_mib": 20.0}})[-1]
    assert line == "| S-ppo_1 | 2 episodes/s | 1 | 2.00 | 25% | 10 / 20 | |"


def test_shapes_with_grouped_heads_are_those_of_the_public_models(script: dict[str, Any]) -> None:
    """Parameters of the linear layers of the body, as in the plan."""
    work = script["work"]
    for name in ("qwen3-0.6b", "llama-3.2-1b"):
        rows = sum(map(len, work.documents(name)))
        head = 2 * work.SHAPES[name][0] * work.SHAPES[name][4]
        assert work.floor("sft_packed", name) == 3 * rows * (2 * shape_of(name).products + head)
