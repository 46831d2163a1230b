"""Adam, rates, clipping, averaging: every field of the section shows."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from heedful.config import NonFinite
from heedful.configs.shared import Optimiser
from heedful.training import optimiser
from heedful.training.optimiser import Average


def one_step(gradient: list[float], **settings: float) -> Tensor:
    """A 1 x n weight of ones after one step at rate 0.1."""
    model = nn.Linear(len(gradient), 1, bias=False)
    nn.init.ones_(model.weight)
    model.weight.grad = torch.tensor([gradient])
    config = Optimiser(lr=0.1, **settings)  # type: ignore[arg-type]
    optimiser.step(model, optimiser.adam(model, config), config, config.lr)
    return model.weight.detach()[0]


def test_adam_by_hand() -> None:
    """First step: m / (1 - b1) = g and v / (1 - b2) = g^2, so the step is lr g / (|g| + eps)."""
    torch.testing.assert_close(one_step([2.0, -0.5]), torch.tensor([0.9, 1.1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(one_step([2.0], eps=0.5), torch.tensor([0.92]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.5, 0.95), (0.9, 0.5)])
def test_two_steps_by_hand(betas: tuple[float, float]) -> None:
    beta1, beta2 = betas
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    config = Optimiser(lr=0.1, beta1=beta1, beta2=beta2)
    adam = optimiser.adam(model, config)
    expected = m = v = 0.0
    for t, gradient in enumerate((1.0, 3.0), start=1):
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        expected -= 0.1 * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + 1e-8)
        model.weight.grad = torch.tensor([[gradient]])
        optimiser.step(model, adam, config, 0.1)
    assert model.weight.item() == pytest.approx(expected, abs=1e-6)


def test_decay_pulls_matrices_and_spares_vectors() -> None:
    config = Optimiser(lr=0.1, weight_decay=0.5)
    model = nn.Linear(2, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(model, optimiser.adam(model, config), config, 0.1)
    assert model.weight[0].tolist() == pytest.approx([0.95, 0.95])
    assert model.bias.item() == 1.0


def test_the_norm_is_that_before_clipping_and_clipping_scales() -> None:
    config = Optimiser(lr=0.1, eps=1.0, clip_norm=1.0)
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert optimiser.step(model, optimiser.adam(model, config), config, 0.1) == pytest.approx(5.0)
    steps = [-0.1 * g / (g + 1.0) for g in (0.6, 0.8)]  # with eps 1 the size of a gradient shows
    assert model.weight[0].tolist() == pytest.approx(steps, abs=1e-6)
    assert model.weight.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_is_named_before_anything_moves(bad: float) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    config = Optimiser(lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[1].weight.grad.fill_(bad)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(NonFinite, match=r"gradient of policy\.1\.weight"):
        optimiser.step(model, optimiser.adam(model, config), config, 0.1, "policy.")
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_norm_that_overflows() -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.full((1, 2), 3e38)
    config = Optimiser(lr=0.1)
    with pytest.raises(NonFinite, match="its norm overflows"):
        optimiser.step(model, optimiser.adam(model, config), config, 0.1)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("cosine", 0, [1.0, 0.55, 0.1]),
        ("cosine", 2, [0.0, 1.0 - 0.45 * (1 - math.cos(math.pi * 3 / 8)), 0.1]),
        ("linear", 0, [1.0, 0.5, 0.0]),
        ("constant", 0, [1.0, 1.0, 1.0]),
        ("constant", 10, [0.1, 0.55, 1.0]),
    ],
)
def test_rates(schedule: str, warmup: int, expected: list[float]) -> None:
    settings = Optimiser(lr=1.0, schedule=schedule, warmup=warmup)  # type: ignore[arg-type]
    assert [optimiser.learning_rate(settings, step, 10) for step in (0, 5, 10)] == pytest.approx(expected)


@pytest.mark.parametrize(("schedule", "expected"), [
    ("cosine", [0.1, 0.325, 0.55, 0.775, 1.0]), ("linear", [0.1, 0.325, 0.55, 0.775, 1.0]),
    ("constant", [0.1, 0.325, 0.55, 0.775, 1.0]),
])  # fmt: skip
def test_warm_up_can_begin_above_zero(schedule: str, expected: list[float]) -> None:
    settings = Optimiser(lr=1.0, schedule=schedule, warmup=4)  # type: ignore[arg-type]
    rates = [optimiser.learning_rate(settings, step, 100, first=0.1) for step in range(5)]
    assert rates == pytest.approx(expected)


def test_frozen_weights_are_not_trained() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    model[0].requires_grad_(False)
    groups = optimiser.adam(model, Optimiser(lr=0.1)).param_groups
    assert sum(len(group["params"]) for group in groups) == 2


def test_the_average_is_a_copy_that_follows() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average, raw = Average(model, 0.75), Average(model, 0.0)
    for weight in (1.0, 2.0):
        nn.init.constant_(model.weight, weight)
        average.update()
        raw.update()
    assert average.model.weight.item() == pytest.approx(0.75 * 0.25 + 0.25 * 2)
    assert raw.model.weight.item() == 2.0
    assert not average.model.weight.requires_grad
    assert not average.model.training


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", -1), ("beta1", 1), ("beta2", 1.5), ("eps", 0), ("weight_decay", -0.1), ("clip_norm", -1), ("warmup", -1)],
)
def test_nonsense_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Optimiser.model_validate({"lr": 0.1, field: value})


def test_the_share_of_the_steps_in_which_a_stable_rate_falls() -> None:
    for decay, expected in ((0.25, [1.0, 1.0, 1.0]), (0.5, [1.0, 1.0, 0.6])):
        settings = Optimiser(lr=1.0, schedule="stable", decay=decay)
        assert [optimiser.learning_rate(settings, step, 10) for step in (0, 5, 7)] == pytest.approx(expected)
