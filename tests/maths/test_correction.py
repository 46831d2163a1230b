"""Truncated importance weights and the mismatch of sampler and policy, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from heedful.maths.correction import mismatch, truncated_weights

MASK = torch.tensor([[True, True], [True, False]])
SAMPLER = torch.tensor([[0.2, 0.4], [0.5, 0.9]]).log()
OLD = torch.tensor([[0.6, 0.2], [0.5, 0.1]]).log()  # ratios 3 and 1/2, and 1 with padding


@pytest.mark.parametrize(
    ("level", "cap", "expected"),
    [
        ("token", 2.0, [[2.0, 0.5], [1.0, 0.0]]),
        ("token", 9.0, [[3.0, 0.5], [1.0, 0.0]]),
        ("sequence", 2.0, [[1.5, 1.5], [1.0, 0.0]]),
        ("sequence", 1.2, [[1.2, 1.2], [1.0, 0.0]]),
    ],
)
def test_weights_are_ratios_up_to_the_cap(level: str, cap: float, expected: list[list[float]]) -> None:
    old = OLD.clone().requires_grad_()
    weights = truncated_weights(old, SAMPLER, MASK, cap, level)  # type: ignore[arg-type]
    assert not weights.requires_grad
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_the_mismatch() -> None:
    """k3 of a ratio r is r - 1 - log r. Weights of tokens 2, 1/2, 1: 3.5^2 / (3 * 5.25). Of answers 1.5 and 1."""
    shared = {
        "difference": (math.log(3) + math.log(2)) / 3,
        "kl": (3 - 1 - math.log(3) + 0.5 - 1 + math.log(2)) / 3,
    }
    tokens = mismatch(OLD, SAMPLER, MASK, 2.0, "token")
    assert tokens == pytest.approx(shared | {"capped": 1 / 3, "effective": 3.5**2 / (3 * 5.25)}, rel=1e-5)
    answers = mismatch(OLD, SAMPLER, MASK, 1.2, "sequence")
    assert answers == pytest.approx(shared | {"capped": 0.5, "effective": 2.2**2 / (2 * 2.44)}, rel=1e-5)
    far = mismatch(OLD + 400, SAMPLER, MASK, 2.0, "sequence")  # exp(800) is inf in float32 and float64
    assert (far["capped"], far["effective"]) == (1.0, 1.0)
