"""Metrics reach the trackers, once a step also after a resume, and a broken tracker does not stop a run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heedful.config import UserError
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import StageConfig
from heedful.runs.manifest import Manifest
from heedful.training.stage_run import open_stage
from heedful.training.trackers import Trackers

MANIFEST = Manifest.begin("sft", SFTConfig(model="a", data="b"), {}, {})


def _logged(names: list[str], run: Path, first: int, steps: range) -> list[str]:
    said: list[str] = []
    trackers = Trackers(said.append)
    trackers.start(names, run, MANIFEST, first)
    for step in steps:
        trackers.log(step, {"loss": 1 / (step + 1)})
    trackers.close()
    return said


@pytest.mark.medium
def test_tensorboard_holds_each_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _logged(["tensorboard"], tmp_path, 0, range(4))
    _logged(["tensorboard"], tmp_path, 2, range(2, 5))  # killed after step 3, resumed from the checkpoint before step 2
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, round(event.value, 4)) for event in events.Scalars("loss")]
    assert found == [(0, 1.0), (1, 0.5), (2, 0.3333), (3, 0.25), (4, 0.2)]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What a trackio of ours was called with. It prints to standard output as the real one does."""
    found: list[tuple[str, Any]] = []
    module = ModuleType("trackio")
    module.__spec__ = sys.__spec__
    module.init = lambda **how: (print("* started"), found.append(("init", how["config"]["model"])))  # type: ignore[attr-defined]
    module.log = lambda metrics, step: found.append(("log", (step, metrics["loss"])))  # type: ignore[attr-defined]
    module.finish = lambda: found.append(("finish", None))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return found


def test_trackio_gets_config_and_metrics_and_keeps_standard_output_clean(
    calls: list[tuple[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _logged(["trackio"], tmp_path, 0, range(2)) == []
    assert calls == [("init", "a"), ("log", (0, 1.0)), ("log", (1, 0.5)), ("finish", None)]
    assert capsys.readouterr().out == ""


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [ConnectionError, ImportError, KeyError, AttributeError, OwnError])
def test_a_tracker_that_fails_is_named_once(
    error: type[Exception], calls: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(metrics: dict[str, float], step: int) -> None:
        raise error("no route to host")

    monkeypatch.setattr(sys.modules["trackio"], "log", fails)
    said = _logged(["trackio"], tmp_path, 0, range(3))
    assert said == [f"trackers: trackio failed ({error('no route to host')}). The run goes on without it"]


def test_a_tracker_that_is_not_installed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trackio is not installed"):
        _logged(["trackio"], tmp_path, 0, range(1))


def test_a_stage_sends_its_metrics_to_its_trackers(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    class Some(StageConfig):
        model: str = "a"

    with open_stage("sft", Some(trackers=["trackio"]), tmp_path / "run", models={}, files={}, resume=False) as s:
        for step in s.steps(s.restore({}, None), 2):
            s.log(step, {"loss": 1 / (step + 1)})
    assert calls == [("init", "a"), ("log", (0, 1.0)), ("log", (1, 0.5)), ("finish", None)]
