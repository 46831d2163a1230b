"""The plan against counts by hand, and the refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from heedful.config import UserError
from heedful.configs.ppo import PPOConfig
from heedful.configs.reward import RewardConfig
from heedful.configs.sft import SFTConfig
from heedful.configs.shared import Compute, Generation
from heedful.training import memory
from heedful.training.memory import Plan
from heedful.training.parallel import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"), torch.float32)


def ppo(**changes: Any) -> PPOConfig:
    settings = {"policy": "-", "reward": ["-"], "prompts": "-", "rollout_batch": 8, "minibatch": 4}
    return PPOConfig(**(settings | {"generation": Generation(max_new_tokens=16)} | changes))


def test_weights_optimiser_and_gradients_are_counted() -> None:
    policy, value = tiny.policy(), tiny.reward()
    count = sum(p.numel() for model in (policy, value) for p in model.parameters())
    planned = memory.plan([policy, value], ppo(), ALONE)
    assert (planned.weights, planned.optimiser, planned.gradients) == (4 * count, 8 * count, 4 * count)
    # of several passes, or with the pretraining gradient, there is a sum in float64 as well
    cut = ppo(compute=Compute(micro_tokens=64))
    assert memory.plan([policy, value], cut, ALONE).gradients == 12 * count
    assert memory.plan([policy, value], ppo(pretrain_data="-"), ALONE).gradients == 12 * count
    # ranks add theirs up in one piece, beside what they have: in float64, in bfloat16's case in float32
    for dtype, bytes_each in ((torch.float32, 20), (torch.bfloat16, 8)):
        two = Ranks(0, 2, torch.device("cpu"), dtype)
        assert memory.plan([policy, value], ppo(), two).gradients == bytes_each * count
    policy.requires_grad_(False)
    left = sum(p.numel() for p in value.parameters())
    assert memory.plan([policy, value], ppo(), ALONE).optimiser == 8 * left


def test_rankings_are_of_several_answers() -> None:
    """8 prompts x 9 answers x 128 tokens are more than one pass of 9,000."""
    model = tiny.reward()
    count = sum(p.numel() for p in model.parameters())
    rows = RewardConfig(model="-", data="-", batch=8, compute=Compute(micro_tokens=9_000))
    assert memory.plan([model], rows, ALONE).gradients == 12 * count
    fewer = RewardConfig(model="-", data="-", batch=7, compute=Compute(micro_tokens=9_000))
    assert memory.plan([model], fewer, ALONE).gradients == 4 * count


def test_what_others_hold_at_most_is_known_here() -> None:
    from heedful.fast import decoder, rows
    from heedful.models import scoring

    assert (memory.SEEN, memory.LOGITS) == (rows.MOST, scoring.MAX_LOGITS)
    assert memory.COPIED == decoder.COPIED_BYTES


def test_the_cache_is_that_of_the_rows_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 layers, 2 heads of keys and of values, 8 wide, float32; 8 rows of 10 + 16 columns."""
    model = tiny.policy()
    monkeypatch.setattr(memory, "COPIED", 0)
    assert memory.plan([model], ppo(max_prompt_tokens=10), ALONE).cache == 2 * 2 * 2 * 8 * 4 * 8 * 26
    fewer = ppo(max_prompt_tokens=10, generation=Generation(max_new_tokens=16, max_rows=3))
    assert memory.plan([model], fewer, ALONE).cache == 2 * 2 * 2 * 8 * 4 * 3 * 26
    assert memory.plan([model], SFTConfig(model="-", data="-"), ALONE).cache == 0  # it does not sample


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float32, 4), (torch.bfloat16, 2 + 2)])
def test_rollouts_copy_the_weights_to_lay_them_out_and_in_bfloat16_once_more(dtype: torch.dtype, copies: int) -> None:
    model = tiny.policy()
    count = sum(p.numel() for p in model.parameters())
    planned = memory.plan([model], ppo(max_prompt_tokens=10), Ranks(0, 1, torch.device("cpu"), dtype))
    assert planned.cache == 2 * 2 * 2 * 8 * 4 * 8 * 26 + copies * count


def test_activations_fall_with_the_pass_and_with_checkpointing() -> None:
    model = tiny.policy()

    def activations(**changes: Any) -> int:
        return memory.plan([model], ppo(compute=Compute(**changes)), ALONE).activations

    assert activations(micro_tokens=100) == activations(micro_tokens=200) / 2
    assert activations(micro_tokens=10**6) == activations(micro_tokens=4 * 128)  # a minibatch of whole contexts
    assert activations(activation_checkpointing=True) < activations()


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"optimiser": 900}, "too large for this machine"),
        ({"activations": 900}, "lower compute.micro_tokens"),
        ({"cache": 900}, "lower generation.max_rows"),
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
    planned = memory.plan([model], ppo(minibatch=8, rollout_batch=8, compute=Compute(micro_tokens=8 * length)), world)
    loss.backward()
    assert real <= planned.activations <= 2.5 * real
