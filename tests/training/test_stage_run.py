"""What a stage's run does around a stage's loop."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heedful.config import NonFinite, UserError
from heedful.configs.shared import Checkpointing, StageConfig
from heedful.files import read_json
from heedful.runs.resumable import Interrupted
from heedful.training import stage_run as module
from heedful.training.parallel import Ranks
from heedful.training.stage_run import StageRun

CPU = torch.device("cpu")


class Some(StageConfig):
    seed: int = 0


def opened(out: Path, *, resume: bool = False, every: int = 2, keep: int = 2) -> Any:
    config = Some(checkpoint=Checkpointing(every=every, keep=keep))
    return module.open_stage("sft", config, out, models={}, files={}, resume=resume)


def loop(s: StageRun, model: nn.Linear, total: int, losses: list[float], stop_at: int = -1) -> list[int]:
    """A loop that adds 1 to the weight at each step."""
    taken = []
    for step in s.steps(s.restore({"model": model}, None), total):
        taken.append(step)
        if step == stop_at:
            raise NonFinite("gradient of weight")
        with torch.no_grad():
            model.weight += 1.0
        best = s.improved(step + 1, losses[step])
        s.log(step, {"loss": losses[step] + 1e-9}, show=("loss",))
        s.checkpoint(step, {"model": model}, always=best, note="kept")
    return taken


def make(weight: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def test_the_best_is_kept_and_comes_back(tmp_path: Path) -> None:
    model = make(0.0)
    with opened(tmp_path / "run") as s:
        loop(s, model, 7, [5.0, 4.0, 1.0, 4.0, 4.0, 4.0, 4.0])
        assert s.best == {"step": 3, "value": 1.0}
        assert sorted(path.name[-1] for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["3", "6", "7"]
        s.load_best({"model": model})
        assert model.weight.item() == 3.0
        s.finish(lambda directory: directory.mkdir(), {"x": 1})
    assert (tmp_path / "run" / "model").is_dir()
    assert read_json(tmp_path / "run" / "manifest.json")["results"] == {"x": 1}


def test_what_is_not_finite_is_named_with_what_is_kept(tmp_path: Path) -> None:
    losses = [5.0] * 9
    for name, stop_at, told in (
        ("a", 0, "gradient of weight is not finite at step 1. There is no checkpoint yet"),
        (
            "b",
            5,
            "gradient of weight is not finite at step 6. The checkpoint of step 4 is kept. Start again with another",
        ),
    ):
        with pytest.raises(UserError, match=told), opened(tmp_path / name) as s:
            loop(s, make(0.0), 9, losses, stop_at)
    assert read_json(tmp_path / "b" / "manifest.json")["status"] == "failed"
    model = make(0.0)
    with opened(tmp_path / "b", resume=True) as s:
        assert loop(s, model, 9, losses) == [4, 5, 6, 7, 8]
        assert s.facts["note"] == "kept"
        assert model.weight.item() == 9.0
        assert [row["loss"] for row in s.history] == [5.0] * 9  # as logged, from before and after alike
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(9))


def test_a_user_s_error_after_the_first_step_is_in_the_manifest(tmp_path: Path) -> None:
    def stop_after(steps: int, out: Path) -> None:
        with opened(out) as s:
            loop(s, make(0.0), steps, [1.0] * 9)
            raise UserError("the data of step 3 are odd")

    for name, steps in (("started", 3), ("fresh", 0)):
        with pytest.raises(UserError, match="odd"):
            stop_after(steps, tmp_path / name)
    manifest = read_json(tmp_path / "started" / "manifest.json")
    assert (manifest["status"], manifest["reason"]) == ("failed", "the data of step 3 are odd")
    assert not (tmp_path / "fresh").exists()


def test_what_nobody_foresaw_is_in_the_manifest(tmp_path: Path) -> None:
    def fail(out: Path, resume: bool = False, *, finish: bool = False) -> None:
        model = make(0.0)
        with opened(out, resume=resume) as s:
            loop(s, model, 3, [1.0] * 9)
            if finish:
                s.finish(lambda directory: directory.mkdir(), {})
            raise RuntimeError("a shape\nof no use")

    for given in ({}, {"resume": True, "finish": True}):
        with pytest.raises(RuntimeError, match="of no use"):
            fail(tmp_path / "run", **given)
        manifest = read_json(tmp_path / "run" / "manifest.json")
        expected = ("finished", None) if given else ("failed", "RuntimeError: a shape of no use")
        assert (manifest["status"], manifest.get("reason")) == expected


def test_a_signal_on_any_rank_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 hears from rank 1, and both leave with the number that rank 1 got."""
    with opened(tmp_path / "run") as s:
        s.restore({}, None)
        steps = s.steps(0, 9)
        next(steps)
        s.checkpoint(0, {})
        monkeypatch.setattr(Ranks, "gather", lambda world, mine: [mine, 15])
        s.ranks = Ranks(0, 2, CPU, torch.float32)
        monkeypatch.setattr(Ranks, "wait", lambda world: None)
        with pytest.raises(Interrupted, match="interrupted at step 1 of 9") as stopped:
            s.checkpoint(0, {})
        assert stopped.value.signal_number == 15
        s.ranks = Ranks(0, 1, CPU, torch.float32)
    assert read_json(tmp_path / "run" / "manifest.json")["status"] == "interrupted"


def test_a_later_sigterm_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, raised = [100.0], list[object]()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with opened(tmp_path / "run") as s:
        signal.raise_signal(signal.SIGTERM)
        now[0] += 4.9
        signal.raise_signal(signal.SIGTERM)  # the first one again
        monkeypatch.setattr(
            module.signal, "raise_signal", lambda number: raised.append((number, signal.getsignal(number)))
        )
        now[0] += 0.2
        s._on_signal(signal.SIGTERM, None)
        assert raised == [(signal.SIGTERM, signal.SIG_DFL)]


def test_random_numbers_follow_from_seed_step_and_rank() -> None:
    def draw(seed: int, step: int, rank: int) -> float:
        world = Ranks(rank, 2, CPU, torch.float32)
        StageRun("sft", Some(seed=seed), Path(), world, None).seed(step)
        return torch.rand(()).item()

    assert draw(1, 2, 0) == draw(1, 2, 0)
    assert len({draw(1, 2, 0), draw(1, 2, 1), draw(1, 3, 0), draw(2, 2, 0)}) == 4


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "gather", lambda world, mine: [mine])
    monkeypatch.setattr(Ranks, "wait", lambda world: None)
    monkeypatch.setattr(Ranks, "broadcast", lambda world, value: value)
    config = Some(checkpoint=Checkpointing(every=1))
    s = StageRun("sft", config, tmp_path, Ranks(1, 2, CPU, torch.float32), None)
    model = make(0.0)
    assert loop(s, model, 3, [1.0, 1.0, 1.0]) == [0, 1, 2]
    s.sample(0, [{"prompt": "p"}])
    asked: list[Path | None] = []
    s.finish(asked.append, {})
    assert asked == [None]  # a part in gathering shards, nothing to write
    assert list(tmp_path.iterdir()) == []
    assert len(s.history) == 3


def test_a_damaged_checkpoint_is_named_with_the_way_on(tmp_path: Path) -> None:
    model = make(0.0)
    with pytest.raises(UserError), opened(tmp_path / "run") as s:
        loop(s, model, 9, [5.0] * 9, stop_at=5)
    broken = tmp_path / "run" / "checkpoints" / "step-00000004" / "model.safetensors"
    broken.write_bytes(b"damaged")
    with (
        pytest.raises(
            UserError, match=r"step-00000004/model\.safetensors: damaged .*\. Delete .*step-00000004 to continue"
        ),
        opened(tmp_path / "run", resume=True) as s,
    ):
        loop(s, model, 9, [5.0] * 9)
