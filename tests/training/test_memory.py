"""The plan against counts by hand, and the refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.shared import Generation, TrainingCompute
from heedful.fast import decoder
from heedful.learning.examples import Example, Question, Ranked
from heedful.learning.passes import ranking_shape, step_shape
from heedful.learning.rollouts import sampled
from heedful.training import memory
from heedful.training.memory import Plan, Sampled, Shape
from heedful.training.parallel import Ranks

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, CPU, torch.float32)
STEP = Shape(tokens=4 * 128, longest=128)


def planned(*models: torch.nn.Module, shape: Shape = STEP, ranks: Ranks = ALONE, **compute: Any) -> Plan:
    return memory.plan(models, shape, TrainingCompute(**compute), ranks)


def test_weights_optimiser_and_gradients_are_counted() -> None:
    policy, value = tiny.policy(), tiny.reward()
    count = sum(p.numel() for model in (policy, value) for p in model.parameters())
    found = planned(policy, value)
    assert (found.weights, found.optimiser, found.gradients) == (4 * count, 8 * count, 4 * count)
    # of several passes, or of two losses, there is a sum in float64 as well
    assert planned(policy, value, micro_tokens=4 * 128).gradients == 4 * count
    assert planned(policy, value, micro_tokens=4 * 128 - 1).gradients == 12 * count
    assert planned(policy, value, shape=Shape(4 * 128, 128, losses=2)).gradients == 12 * count
    # ranks add theirs up in one piece, next to what they have: in float64, from bfloat16 in float32
    for dtype, bytes_each in ((torch.float32, 20), (torch.bfloat16, 8)):
        assert planned(policy, value, ranks=Ranks(0, 2, CPU, dtype)).gradients == bytes_each * count
    policy.requires_grad_(False)
    assert planned(policy, value).optimiser == 8 * sum(p.numel() for p in value.parameters())


def test_the_shape_of_a_step_follows_from_its_rows() -> None:
    """Five rows of at most 4 + 3 tokens; two rankings of at most 3 answers with 2 + 5 tokens."""
    rows = [Example([1] * 4, [1] * 3), Example([1] * 2, [1])]
    assert step_shape(rows, 5, losses=2) == Shape(tokens=35, longest=7, losses=2)
    one = Ranked([1] * 2, [[1] * 5, [1]], [0, 1], [5, 1], None)  # type: ignore[arg-type]
    other = Ranked([1], [[1]] * 3, [0, 1, 2], [1] * 3, None)  # type: ignore[arg-type]
    assert ranking_shape([one, other], 2) == Shape(tokens=2 * 3 * 7, longest=7)


def test_no_more_rows_are_sampled_than_fit_in_flight() -> None:
    asked = [Question("", [1] * 10, None), Question("", [1] * 4, None)]  # type: ignore[arg-type]
    settings = Generation(max_new_tokens=16, max_rows=8)
    assert sampled(asked, settings, 3) == Sampled(rows=3, columns=26)
    assert sampled(asked, settings, 9) == Sampled(rows=8, columns=26)


def test_the_cache_is_that_of_the_rows_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 layers, 2 heads of keys and of values, 8 wide, float32; 8 rows of 26 columns."""
    monkeypatch.setattr(decoder, "COPIED_BYTES", 0)
    shape = Shape(4 * 128, 128, sampled=Sampled(8, 26))
    assert planned(tiny.policy(), shape=shape).cache == 2 * 2 * 2 * 8 * 4 * 8 * 26
    assert planned(tiny.policy()).cache == 0  # it does not sample


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float32, 4), (torch.bfloat16, 2 + 2)])
def test_rollouts_copy_the_weights_to_reorder_them_and_in_bfloat16_once_more(dtype: torch.dtype, copies: int) -> None:
    model = tiny.policy()
    count = sum(p.numel() for p in model.parameters())
    shape = Shape(4 * 128, 128, sampled=Sampled(8, 26))
    found = planned(model, shape=shape, ranks=Ranks(0, 1, CPU, dtype))
    assert found.cache == 2 * 2 * 2 * 8 * 4 * 8 * 26 + copies * count


def test_activations_fall_with_the_pass_and_with_checkpointing() -> None:
    model = tiny.policy()
    activations = {tokens: planned(model, micro_tokens=tokens).activations for tokens in (100, 200, 512, 10**6)}
    assert activations[100] == activations[200] / 2
    assert activations[10**6] == activations[512]  # no pass has more than the step
    assert planned(model, activation_checkpointing=True).activations < planned(model).activations


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"optimiser": 900}, "too large for this machine"),
        ({"activations": 900}, "Lower compute.micro_tokens"),
        ({"cache": 900}, "Lower generation.max_rows"),
    ],
)
def test_more_than_there_is_is_refused_with_what_to_change(changes: dict[str, int], remedy: str) -> None:
    bytes_of = {"weights": 1, "optimiser": 100, "gradients": 50, "activations": 10, "cache": 5, "available": 160}
    Plan(**bytes_of).check("runs/x")
    with pytest.raises(UserError, match=f"runs/x: needs about .* of memory .*{remedy}"):
        Plan(**{**bytes_of, **changes}).check("runs/x")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [64, 128])
@pytest.mark.parametrize("enough", [0, 1 << 40], ids=["row by row", "side by side"])
def test_the_estimate_covers_what_a_pass_keeps(
    length: int, enough: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that the backward pass keeps, counted as autograd saves them."""
    from heedful.fast import rows
    from heedful.models import batches, scoring

    for name in ("ENOUGH", "ENOUGH_NARROW"):
        monkeypatch.setattr(rows, name, enough)
    model = tiny.policy("llama", hidden=64, layers=4).train()
    batch = batches.collate([[3]] * 8, [[4] * (length - 1)] * 8, tiny.VOCAB - 1)
    kept: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    world = Ranks(0, 1, torch.device("cpu"), dtype)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), world.autocast():
        loss = scoring.response_logprobs(model, batch).sum()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    real = sum(size for place, size in kept.items() if place not in weights)
    found = planned(model, shape=Shape(8 * length, length), ranks=world)
    loss.backward()
    assert real <= found.activations <= 2.5 * real
