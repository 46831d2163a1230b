"""Checkpoints: whole or not there, the last n and the best kept, filled in place."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tiny
from heedful.config import UserError
from heedful.configs.shared import Checkpointing, Optimiser
from heedful.training import checkpoint, optimiser
from heedful.training.checkpoint import SavedPart
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


def trained() -> dict[str, SavedPart]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    adam = optimiser.adam(model, SETTINGS)
    model(torch.ones(2, 4)).square().sum().backward()
    optimiser.step(model, adam, SETTINGS, 1e-2)
    return {"model": model, "optimiser": adam}


def resaved(file: str, change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def damage(step: Path) -> None:
        tensors = load_file(step / file)
        change(tensors)
        save_file(tensors, step / file)

    return damage


def state(content: str) -> Callable[[Path], Any]:
    return lambda step: (step / "state.json").write_text(content)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing tensor": (resaved("model.safetensors", lambda t: t.pop("0.bias")), "0.bias is missing"),
    "unknown tensor": (resaved("model.safetensors", lambda t: t.update(x=torch.ones(1))), "x is unknown"),
    "other shape": (
        resaved("model.safetensors", lambda t: t.update({"0.bias": torch.ones(4)})),
        r"0.bias has shape \[4\] instead of \[3\]",
    ),
    "missing moment": (resaved("optimiser.safetensors", lambda t: t.pop("1.exp_avg")), "1.exp_avg is missing"),
    "other moment": (
        resaved("optimiser.safetensors", lambda t: t.update({"0.exp_avg_sq": torch.ones(2)})), "0.exp_avg_sq has shape"
    ),
    "no moments": (resaved("optimiser.safetensors", dict.clear), "0.step is missing"),
    "missing file": (lambda step: (step / "model.safetensors").unlink(), "cannot be read"),
    "cut file": (lambda step: (step / "model.safetensors").write_bytes(b"abc"), "cannot be read"),
    "state cut": (state('{"step'), "damaged"),
    "state list": (state("[]"), "state.json: damaged"),
    "no state": (lambda step: (step / "state.json").unlink(), "No such file"),
    "step -5": (state('{"step": -5}'), "-5"),
    "step text": (state('{"step": "3"}'), "'3'"),
    "step true": (state('{"step": true}'), "True"),
    "other step": (state('{"step": 4}'), "its step is 4"),
    "best list": (state('{"step": 3, "best": []}'), "best"),
    "best without value": (state('{"step": 3, "best": {"step": 2}}'), "best.value"),
    "coefficient": (state('{"step": 3, "kl_coef": "high"}'), "kl_coef"),
    "coefficient none": (state('{"step": 3, "kl_coef": null}'), "kl_coef"),
    "coefficient nan": (state('{"step": 3, "kl_coef": NaN}'), "kl_coef"),
    "stopped": (state('{"step": 3, "stopped": 1}'), "stopped"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, kind: str) -> None:
    """With its sums, and as an earlier version left it, without."""
    step = checkpoint.save(tmp_path, 3, trained(), {})
    damage, told = DAMAGE[kind]
    damage(step)
    with pytest.raises(UserError, match=r"damaged \("):
        checkpoint.load(step, trained())
    (step / checkpoint.SUMS).unlink()
    with pytest.raises(UserError, match=told) as refused:
        checkpoint.load(step, trained())
    assert "\n" not in str(refused.value)


def test_one_flipped_bit_is_refused_before_a_weight_changes(tmp_path: Path) -> None:
    parts = trained()
    step = checkpoint.save(tmp_path, 3, parts, {"best": None})
    draw = random.Random(0)
    before = [weight.clone() for weight in parts["model"].parameters()]
    for file in sorted(step.iterdir()):
        content = file.read_bytes()
        for _ in range(8):
            place, bit = draw.randrange(len(content)), draw.randrange(8)
            file.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(UserError, match=r"step-00000003.*damaged .*Delete .*step-00000003 to continue"):
                checkpoint.load(step, parts)
        file.write_bytes(content)
    assert all(torch.equal(a, b) for a, b in zip(before, parts["model"].parameters(), strict=True))
    assert checkpoint.load(step, parts) == {"step": 3, "best": None}
    subprocess.run(["sha256sum", "--check", "--quiet", checkpoint.SUMS], cwd=step, check=True)


def test_only_names_of_checkpoints_count(tmp_path: Path) -> None:
    for name in ("step-abc", "step-00000004.old", "step-5"):
        (tmp_path / name).mkdir()
    assert checkpoint.latest(tmp_path) is None


def test_a_weight_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OSError, match=r"checkpoints/\.step-00000001\..*tmp"):
        checkpoint.save(tmp_path / "checkpoints", 1, {"model": nn.Linear(1, 1)}, {})
    with pytest.raises(UserError, match=r"cannot be written .*The checkpoint before it is kept"):
        checkpoint._write({"weight": torch.zeros(1)}, tmp_path / "nowhere" / "model.safetensors")


@pytest.mark.parametrize(("every", "total", "interval"), [(0, 100, 5), (0, 7, 1), (0, 0, 1), (3, 100, 3)])
def test_twenty_checkpoints_unless_told(every: int, total: int, interval: int) -> None:
    assert Checkpointing(every=every).interval(total) == interval
