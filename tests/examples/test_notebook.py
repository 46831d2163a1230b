"""examples/quickstart.ipynb runs from its first cell to its last, and ends with a model that scores higher."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FEWER = {"asked[:700]": "asked[:350]", "episodes=1024": "episodes=384", "asked[700:950]": "asked[700:850]"}
"""Half the rows and a third of the episodes, for the time."""
NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawn: list[str] = []
    display = ModuleType("IPython.display")
    display.HTML, display.display = str, drawn.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        for whole, part in FEWER.items():
            cell = cell.replace(whole, part)
        exec(cell, names)
    assert all(any(whole in cell for cell in cells) for whole in FEWER)
    assert [page.count("<svg") >= 1 for page in drawn] == [True, True, True]
    assert names["last"]["score"] > names["first"]["score"]
    out = capsys.readouterr().out
    assert out.count("  SFT: ") == out.count("  PPO: ") == 6
    assert not any(cell.get("outputs") for cell in notebook["cells"])  # nothing of somebody's machine is in the file
