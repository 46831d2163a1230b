"""Checkpoints: whole or not there, the last n and the best kept, filled in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tiny
from heedful.config import UserError
from heedful.configs.shared import Checkpointing, Optimiser
from heedful.training import checkpoint, optimiser
from heedful.training.optimiser import Average

SETTINGS = Optimiser(lr=1e-2, weight_decay=0.1)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_last_n_and_the_best_are_kept(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    for step in (10, 20, 30, 40):
        checkpoint.save(tmp_path, step, {"model": model}, {})
        checkpoint.prune(tmp_path, 2, best=10)
    assert names(tmp_path) == ["step-00000010", "step-00000030", "step-00000040"]
    checkpoint.prune(tmp_path, 2, best=None)
    assert names(tmp_path) == ["step-00000030", "step-00000040"]
    checkpoint.prune(tmp_path, 5, best=None)
    assert len(names(tmp_path)) == 2


def test_an_unfinished_checkpoint_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 1)
    assert checkpoint.latest(tmp_path) is None
    checkpoint.save(tmp_path, 9, {"model": model}, {"best": None})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 10, {"model": model}, {})
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.name == "step-00000009"
    assert checkpoint.load(found, {"model": model}) == {"step": 9, "best": None}
    checkpoint.save(tmp_path, 10, {"model": model}, {})
    assert names(tmp_path) == ["step-00000009", "step-00000010"]


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    def trained(steps: int, model: nn.Module, adam: torch.optim.Optimizer, average: Average) -> None:
        for step in range(steps):
            model(torch.full((3, 4), float(step + 1))).square().sum().backward()
            optimiser.step(model, adam, SETTINGS, 1e-2)
            average.update()

    def new(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, Average]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
        return model, optimiser.adam(model, SETTINGS), Average(model, 0.9)

    first, other = new(0), new(1)
    trained(3, *first)
    checkpoint.save(tmp_path, 3, dict(zip("mao", first, strict=True)), {"kl_coef": 0.1 + 0.2})
    facts = checkpoint.load(tmp_path / "step-00000003", dict(zip("mao", other, strict=True)))
    assert facts == {"step": 3, "kl_coef": 0.1 + 0.2}
    for model in (first, other):
        trained(2, *model)
    for a, b in zip(weights(first), weights(other), strict=True):
        assert torch.equal(a, b)


def weights(trained: tuple[nn.Module, torch.optim.Optimizer, Average]) -> list[Tensor]:
    return [*trained[0].parameters(), *trained[2].model.parameters()]


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    model, other = tiny.policy("gpt2"), tiny.policy("gpt2", seed=1)
    checkpoint.save(tmp_path, 1, {"model": model}, {})
    checkpoint.load(tmp_path / "step-00000001", {"model": other})
    assert other.lm_head.weight is other.transformer.wte.weight
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)


def test_a_weight_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=r"checkpoints/\.step-00000001\..*tmp"):
        checkpoint.save(tmp_path / "checkpoints", 1, {"model": nn.Linear(1, 1)}, {})
    with pytest.raises(UserError, match=r"cannot be written .*The checkpoint before it is kept"):
        checkpoint._write({"weight": torch.zeros(1)}, tmp_path / "nowhere" / "model.safetensors")


@pytest.mark.parametrize(("every", "total", "interval"), [(0, 100, 5), (0, 7, 1), (0, 0, 1), (3, 100, 3)])
def test_twenty_checkpoints_unless_told(every: int, total: int, interval: int) -> None:
    assert Checkpointing(every=every).interval(total) == interval
