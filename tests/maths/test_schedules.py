from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from heedful.maths import schedules
from maths import golden


@golden.cases("optim", "cosine_to_10pct")
def test_golden_cosine(case):
    total, peak, warmup = (case.inputs[name] for name in ("total_steps", "peak_lr", "warmup_steps"))
    steps = range(len(case.expected["lr_at_step"]))
    case.check({"lr_at_step": [schedules.cosine(step, total, peak, warmup=warmup) for step in steps]})


@golden.cases("optim", "ppo_warmup_constant")
def test_golden_warmup(case):
    peak, warmup = case.inputs["peak_lr"], case.inputs["warmup_iterations"]
    iterations = range(len(case.expected["lr_at_iteration"]))
    case.check({"lr_at_iteration": [schedules.warmup_constant(i, peak, warmup) for i in iterations]})


@golden.cases("optim", "adam_epsilon")
def test_golden_adam_is_torch_adam(case):
    """Which epsilon a config's number means (P19): the one of torch."""
    inputs, weights = case.inputs, []
    parameter = torch.nn.Parameter(golden.tensor(inputs["params0"]))
    betas = inputs["beta1"], inputs["beta2"]
    optimiser = torch.optim.Adam([parameter], lr=inputs["lr"], betas=betas, eps=inputs["eps"])
    for gradient in inputs["grads"]:
        parameter.grad = golden.tensor(gradient)
        optimiser.step()
        weights.append(parameter.detach().clone())
    case.check({"torch": torch.stack(weights)})


@golden.DTYPES
@golden.cases("optim", "ema")
def test_golden_ema(case, dtype):
    ema, updates = case.tensors(dtype, "initial", "weights_after_each_update")
    averages = []
    for weight in updates:
        schedules.ema_update(ema, weight, case.inputs["decay"])
        averages.append(ema.clone())
    case.check({"ema": torch.stack(averages)}, dtype)


def test_ema_is_in_place_and_takes_lower_precision_weights():
    ema = torch.nn.Parameter(torch.ones(2))
    schedules.ema_update(ema, torch.tensor([3.0, -1.0]).bfloat16(), 0.75)
    assert ema.tolist() == [1.5, 0.5]


@pytest.mark.parametrize("schedule", [schedules.cosine, schedules.linear])
def test_warmup_floor_and_end(schedule):
    rates = [schedule(step, 12, 2.0, floor=0.25, warmup=4) for step in range(16)]
    assert rates[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert rates[8] == pytest.approx(2.0 * (1 + 0.25) / 2)
    assert rates[12:] == pytest.approx([0.5] * 4)
    assert all(a > b for a, b in pairwise(rates[4:13]))


def test_linear_is_a_line_and_cosine_is_not():
    assert schedules.linear(3, 12, 1.0) == pytest.approx(0.75)
    assert schedules.cosine(3, 12, 1.0, floor=0.0) == pytest.approx((1 + 2**-0.5) / 2)


def test_warmup_of_no_iterations_is_constant():
    assert schedules.warmup_constant(0, 3.0, warmup=0) == 3.0


def test_stable_is_constant_and_falls_to_zero_in_the_last_quarter():
    rates = [schedules.stable(step, 16, 2.0, warmup=2) for step in range(17)]
    assert rates[:3] == [0.0, 1.0, 2.0]
    assert set(rates[2:13]) == {2.0}
    assert rates[13:] == [1.5, 1.0, 0.5, 0.0]
    assert schedules.stable(6, 160, 2.0, warmup=2) == rates[6]  # a longer run begins alike
    assert schedules.stable(1, 16, 2.0, warmup=2, first=0.1) == pytest.approx(1.1)
