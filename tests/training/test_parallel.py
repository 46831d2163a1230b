"""Ranks: who takes what, how it comes back together, and what a rank without work says."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from heedful.config import UserError
from heedful.configs.shared import Compute
from heedful.training import parallel
from heedful.training.parallel import Ranks

CPU = torch.device("cpu")


def ranks(size: int) -> list[Ranks]:
    return [Ranks(rank, size, CPU, torch.float32) for rank in range(size)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_what_is_shared_is_merged_in_its_first_order(size: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(count))
    shares = [world.share(items) for world in ranks(size)]
    assert sum(map(len, shares)) == count

    def gather(parts: list[Any], mine: Any) -> None:
        parts[:] = [([f"item {i}" for i in share], None) for share in shares]

    monkeypatch.setattr(parallel.dist, "all_gather_object", gather)
    done = [f"item {i}" for i in items]
    assert [world.each(items, lambda i: f"item {i}") for world in ranks(size)] == [done] * size


def test_what_one_rank_cannot_do_all_ranks_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(item: int) -> int:
        if item == 3:
            raise UserError("item 3 is broken")
        return item

    sent: list[Any] = []
    monkeypatch.setattr(parallel.dist, "all_gather_object", lambda parts, mine: sent.append(mine))
    for world in ranks(2):
        with contextlib.suppress(UserError):  # its own
            world.each(range(4), work)
    monkeypatch.setattr(parallel.dist, "all_gather_object", lambda parts, mine: parts.__setitem__(slice(None), sent))
    for world in ranks(2):
        with pytest.raises(UserError, match="item 3 is broken"):
            world.each(range(4), work)


def test_alone_there_is_nothing_to_wait_for() -> None:
    (alone,) = ranks(1)
    assert alone.main
    assert alone.broadcast("x") == "x"
    assert alone.gather(15) == [15]
    alone.wait()


def test_gradients_of_two_ranks_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank's part is 10 for every weight; the model has a weight that only the other rank's loss touched."""
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda flat: flat.add_(10.0))
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(1, 1)})
    model["used"].bias.requires_grad_(False)
    world = ranks(2)[1]
    for _ in range(2):
        world.backward(model["used"].weight.sum(), model)
    world.sum_gradients(model)
    assert model["used"].weight.grad.tolist() == [[12.0, 12.0]]
    assert model["used"].weight.grad.dtype == torch.float32
    assert model["used"].bias.grad is None
    assert model["unused"].weight.grad.tolist() == [[10.0]]
    model.zero_grad()
    world.backward(model["used"].weight.sum(), model)
    world.sum_gradients(model)
    assert model["used"].weight.grad.tolist() == [[11.0, 11.0]]  # nothing is left of the step before


def test_gradients_are_summed_in_float64_on_a_cpu_in_float32_only() -> None:
    """2^24 + 1 is no float32: the ones are lost where the sum is in float32."""
    cases = {(CPU, torch.float32): 2.0, (CPU, torch.bfloat16): 0.0, (torch.device("cuda"), torch.float32): 0.0}
    for (device, dtype), expected in cases.items():
        model, alone = nn.Linear(1, 1, bias=False), Ranks(0, 1, device, dtype)
        for factor in (2.0**24, 1.0, 1.0, -(2.0**24)):
            alone.backward(model.weight.sum() * factor, model)
        alone.sum_gradients(model)
        assert model.weight.grad.item() == expected


def test_a_rank_without_work_says_so_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda flat: flat)
    parallel._say_idle.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            ranks(2)[1].sum_gradients(nn.Linear(1, 1))
    (record,) = caplog.records
    assert record.getMessage().startswith("rank 1 of 2 has no part of a batch: lower compute.micro_tokens")


def test_low_precision_is_for_the_passes_only() -> None:
    low = Ranks(0, 1, CPU, torch.bfloat16)
    layer = nn.Linear(4, 4)
    with low.autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with ranks(1)[0].autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_a_world_of_one_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    here = parallel.join_ranks(Compute(device="cpu", dtype="bfloat16"))
    assert (here.rank, here.size, here.dtype) == (0, 1, torch.bfloat16)


HEAP = """
import ctypes
from heedful.training.parallel import join_ranks
from heedful.configs.shared import Compute
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
{before}
start = libc.sbrk(0)
block = libc.malloc(20 << 20)
grown = libc.sbrk(0)
libc.free(ctypes.c_void_p(block))
print(grown - start >= 15 << 20, libc.sbrk(0) == grown)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be told")
def test_memory_that_a_tensor_leaves_stays_with_the_process() -> None:
    """20 MiB come from the heap, not from a mapping of their own, and the heap does not shrink when they are freed."""

    def heap(before: str) -> str:
        script = HEAP.format(before=before)
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    assert heap("join_ranks(Compute(device='cpu'))") == "True True"
    assert heap("") != "True True"
